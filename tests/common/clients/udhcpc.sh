#!/bin/sh
# What udhcpc runs at each event: it sets the address, then says in one line what the server sent.
case $1 in
deconfig) ip addr flush dev "$interface" ;;
bound | renew) ip addr replace "$ip/$mask" dev "$interface" ;;
esac
echo "$1 ip=$ip mask=$mask router=$router dns=$dns domain=$domain server=$serverid lease=$lease \
siaddr=$siaddr file=$boot_file tftp=$tftp bootfile=$bootfile"
