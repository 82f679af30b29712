//! TFTP as pure state machines: packets, options, one transfer, the table of a core's transfers, a client.
