//! Other people's clients against ringboot: curl, tftp-hpa, atftp, busybox, udhcpc and dhclient, each in a namespace of its own.

mod common;
