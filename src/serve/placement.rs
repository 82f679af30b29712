//! Which thread runs on which processor: numbers in, numbers out.

/// Processors of the inherited mask, shared out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CorePlacement {
    /// DHCP and everything that is not on a packet's path.
    pub control: usize,
    /// One boot core (a TFTP thread and an HTTP thread) on each.
    pub boot: Vec<usize>,
}

/// With one processor everything shares it. With more, DHCP and control have the first and boot
/// cores the others, at most `workers` of them. Who asks for as many workers as there are
/// processors gets one on the first, too.
pub(crate) fn place(allowed: &[usize], workers: Option<usize>) -> CorePlacement {
    let (&control, others) = allowed.split_first().unwrap_or((&0, &[]));
    let mut boot = others.to_vec();
    if boot.is_empty() || workers.is_some_and(|workers| workers > boot.len()) {
        boot.push(control);
    }
    boot.truncate(workers.unwrap_or(usize::MAX).max(1));
    CorePlacement { control, boot }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_processor_is_shared_by_all() {
        assert_eq!(place(&[5], None), CorePlacement { control: 5, boot: vec![5] });
        assert_eq!(place(&[5], Some(4)), CorePlacement { control: 5, boot: vec![5] });
    }

    #[test]
    fn two_processors_are_parted() {
        assert_eq!(place(&[0, 1], None), CorePlacement { control: 0, boot: vec![1] });
    }

    #[test]
    fn boot_cores_stay_inside_the_mask_and_below_the_wanted_number() {
        assert_eq!(place(&[2, 3, 6, 7], None).boot, vec![3, 6, 7]);
        assert_eq!(place(&[2, 3, 6, 7], Some(2)).boot, vec![3, 6]);
        assert_eq!(place(&[2, 3, 6, 7], Some(3)).boot, vec![3, 6, 7]);
        assert_eq!(place(&[2, 3, 6, 7], Some(4)).boot, vec![3, 6, 7, 2]);
        assert_eq!(place(&[2, 3, 6, 7], Some(9)).boot, vec![3, 6, 7, 2]);
        assert_eq!(place(&[2, 3, 6, 7], Some(0)).boot, vec![3]);
    }
}
