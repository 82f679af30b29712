//! Where a boot stopped: every cause by its word, and the report about it.

words! {
    /// Where a boot stopped, or what it waits for. docs/troubleshooting.md has a row for each and
    /// tests/why.rs a test.
    pub enum StopCause {
        /// The server answers DHCP and has seen no DISCOVER from the machine.
        NeverSeen = "never-seen",
        /// The server answers no DHCP, so it cannot know a machine by its hardware address.
        NoDhcpHere = "no-dhcp-here",
        /// The server answers no DHCP, and no request came from this IP address.
        NothingAskedFor = "nothing-asked-for",
        /// The machine got an OFFER and sent no REQUEST for it.
        NotRequested = "not-requested",
        /// `[boot]` has no boot file for the firmware and architecture of the machine.
        NoLoader = "no-loader",
        /// The last REQUEST got a NAK.
        Refused = "refused",
        /// Two or more NAKs in a row, without a lease between them.
        RefusedAgain = "refused-again",
        /// The pools of the subnet have no free address.
        PoolFull = "pool-full",
        /// The REQUEST names another server (option 54).
        ChoseOther = "chose-other-server",
        /// No [[dhcp.subnet]] matches the link on which the message came.
        NoSubnet = "no-subnet",
        /// No [[dhcp.subnet]] matches the network of the relay agent or router.
        NoSubnetBehind = "no-subnet-behind",
        /// The message was relayed, and its subnet has no `relay = true`.
        NotForRelays = "not-for-relays",
        /// The subnet has `mode = "off"`.
        SubnetOff = "subnet-off",
        /// The subnet has `clients = "pxe"`, and the machine has never asked for a network boot.
        NotPxe = "not-pxe",
        /// The subnet has `clients = "known"`, and the machine has no reservation.
        NotReserved = "not-reserved",
        /// Another DHCP server answers on the segment, so this server is silent there.
        OtherServer = "other-server",
        /// The server still looks for other DHCP servers on the segment.
        Looking = "looking-for-servers",
        /// The interface of the subnet is missing, down or without an address in the subnet.
        NoInterface = "no-interface",
        /// INIT-REBOOT of a client without a lease here (RFC 2131 section 4.3.2).
        UnknownClient = "unknown-client",
        /// A BOOTP request without a reservation.
        Bootp = "bootp",
        /// The machine declined so many addresses that the pools give it none for a while.
        DeclinedTooMuch = "declined-too-much",
        /// The mandatory options do not fit the message size that the client accepts.
        AnswerTooLarge = "answer-too-large",
        /// The DHCP message is malformed or contradicts itself.
        OddMessage = "odd-message",
        /// The machine sent a DECLINE: its address is in use by another host.
        Declined = "declined",
        /// The store could not write the lease, so the machine got no ACK.
        LeaseNotKept = "lease-not-kept",
        /// The machine has its lease and a boot file name, and has sent no request since.
        NoFileAskedFor = "no-file-asked-for",
        /// As `NoFileAskedFor`, read from the store of a stopped server, which knows only transfers
        /// that ended.
        NoFileDelivered = "no-file-delivered",
        /// A transfer is running.
        Loading = "loading",
        /// A transfer is open and has made no progress for some seconds.
        LoadingStill = "loading-still",
        /// A request waits for transfers of the same address or for the disk.
        WaitsForItsTurn = "waits-for-its-turn",
        /// A file is missing that a line of the configuration names.
        MissingNamed = "missing-named",
        /// A file is missing that no line of the configuration names.
        Missing = "missing",
        /// The permissions of the file or of a directory above it keep the server out.
        Unreadable = "unreadable",
        /// The name leads outside the root.
        OutsideRoot = "outside-root",
        /// The name is a directory or a device.
        NotAFile = "not-a-file",
        /// The name has a component that the server hides, such as `.git`.
        Hidden = "hidden",
        /// The file is one of the server's own: configuration or state.
        Private = "private",
        /// The name leads above the root, or has a control character.
        BadName = "bad-name",
        /// The file is too large for a translation to netascii.
        TooLarge = "too-large",
        /// A template could not be rendered.
        TemplateFailed = "template-failed",
        /// The machine sent a TFTP write request (WRQ).
        WriteRefused = "write-refused",
        /// The request is malformed, or of a kind that the server does not serve.
        BadRequest = "bad-request",
        /// The client never acknowledged DATA block 1.
        StalledAtFirst = "stalled-at-first",
        /// The client stopped acknowledging in the middle of a file.
        Stalled = "stalled",
        /// The client ended the transfer with a TFTP ERROR.
        Aborted = "aborted",
        /// The file was changed in place during the transfer.
        Changed = "changed",
        /// ACKs came from a sender that does not know the transfer's port.
        Forged = "forged",
        /// The server cut an HTTP connection whose client read too slowly.
        TooSlow = "too-slow",
        /// The server failed: an I/O error, or a limit of its own.
        NotServed = "not-served",
        /// The loader found no menu under any of its names.
        NoMenu = "no-menu",
        /// The loader was sent completely, and no request followed.
        LoaderDoesNotRun = "loader-does-not-run",
        /// The menu was sent, and no request followed.
        AtMenu = "at-menu",
    }
}

impl StopCause {
    /// True while the boot may go on without anybody doing something.
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Loading | Self::LoadingStill | Self::WaitsForItsTurn)
    }
}

/// What `ringboot why` prints about a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopReport {
    /// Stays the same when the sentence changes: scripts compare it.
    pub code: StopCause,
    /// One sentence; its subject "it" is the machine.
    pub cause: String,
    /// What the operator does next.
    pub next_step: String,
}

pub(super) const FIRST_BLOCK: &str = "Blocks come from a high port: let UDP from the server's \
                                      ephemeral ports through, or set `[tftp] port-range`.";
pub(super) const LATER_BLOCK: &str = "Look for packet loss, a smaller MTU on the way, or a machine \
                                      that lost power; `[[tftp.client]]` can give it smaller \
                                      blocks and windows.";
