//! Which thread runs on which processor: numbers in, numbers out.

/// The processors of the inherited mask, by their role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CorePlacement {
    /// The processor of DHCP and of everything off the data path.
    pub control: usize,
    /// The processors of boot cores, each with a TFTP thread and an HTTP thread.
    pub boot: Vec<usize>,
}

/// Assigns the processors. With only one, everything shares it. With more, DHCP and control get the
/// first and boot cores the others, at most `workers` of them. If `workers` asks for as many as
/// there are processors, the first one gets a boot core too.
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
