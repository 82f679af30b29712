#!/bin/sh
# What dhclient runs at each event: it sets the address, then says in one line what happened.
case $reason in
BOUND | RENEW | REBIND | REBOOT) ip addr replace "$new_ip_address/24" dev "$interface" ;;
EXPIRE | FAIL | RELEASE | STOP) ip addr flush dev "$interface" ;;
esac
echo "$reason ip=$new_ip_address"
