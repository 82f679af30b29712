//! Where a boot stopped: every cause by its word, and what is said of it.

words! {
    /// Where a boot stopped, or what it waits for. docs/troubleshooting.md has a row for each,
    /// tests/why.rs a test.
    pub enum StopCause {
        NeverSeen = "never-seen",
        NoDhcpHere = "no-dhcp-here",
        NothingAskedFor = "nothing-asked-for",
        NotRequested = "not-requested",
        NoLoader = "no-loader",
        Refused = "refused",
        RefusedAgain = "refused-again",
        PoolFull = "pool-full",
        ChoseOther = "chose-other-server",
        NoSubnet = "no-subnet",
        NoSubnetBehind = "no-subnet-behind",
        NotForRelays = "not-for-relays",
        SubnetOff = "subnet-off",
        NotPxe = "not-pxe",
        NotReserved = "not-reserved",
        OtherServer = "other-server",
        Looking = "looking-for-servers",
        NoInterface = "no-interface",
        UnknownClient = "unknown-client",
        Bootp = "bootp",
        DeclinedTooMuch = "declined-too-much",
        AnswerTooLarge = "answer-too-large",
        OddMessage = "odd-message",
        Declined = "declined",
        LeaseNotKept = "lease-not-kept",
        NoFileAskedFor = "no-file-asked-for",
        NoFileDelivered = "no-file-delivered",
        Loading = "loading",
        LoadingStill = "loading-still",
        WaitsForItsTurn = "waits-for-its-turn",
        MissingNamed = "missing-named",
        Missing = "missing",
        Unreadable = "unreadable",
        OutsideRoot = "outside-root",
        NotAFile = "not-a-file",
        Hidden = "hidden",
        Private = "private",
        BadName = "bad-name",
        TooLarge = "too-large",
        TemplateFailed = "template-failed",
        WriteRefused = "write-refused",
        BadRequest = "bad-request",
        StalledAtFirst = "stalled-at-first",
        Stalled = "stalled",
        Aborted = "aborted",
        Changed = "changed",
        Forged = "forged",
        TooSlow = "too-slow",
        NotServed = "not-served",
        NoMenu = "no-menu",
        LoaderDoesNotRun = "loader-does-not-run",
        AtMenu = "at-menu",
    }
}

impl StopCause {
    /// It goes on by itself, or may.
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Loading | Self::LoadingStill | Self::WaitsForItsTurn)
    }
}

/// A cause in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopReport {
    pub code: StopCause,
    pub cause: String,
    pub next_step: String,
}

pub(super) const FIRST_BLOCK: &str = "Blocks come from a high port: let UDP from the server's \
                                      ephemeral ports through, or set `[tftp] port-range`.";
pub(super) const LATER_BLOCK: &str = "Look for packet loss or a smaller MTU on the way, or power \
                                      lost; `[[tftp.client]]` can give it smaller blocks and \
                                      windows.";
