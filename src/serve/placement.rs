//! Which thread runs on which processor: numbers in, numbers out.

/// Processors of the inherited mask, shared out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// DHCP and everything that is not on a packet's path.
    pub control: usize,
    /// One boot core (a TFTP thread and an HTTP thread) on each.
    pub boot: Vec<usize>,
}

/// With one processor everything shares it. With more, DHCP and control have the first and boot cores the others, at most
/// `workers` of them.
pub fn place(allowed: &[usize], workers: Option<usize>) -> Placement {
    let control = allowed.first().copied().unwrap_or(0);
    let others = if allowed.len() > 1 { &allowed[1..] } else { allowed };
    let count = workers.unwrap_or(others.len()).clamp(1, others.len().max(1));
    let boot = if others.is_empty() { vec![control] } else { others[..count].to_vec() };
    Placement { control, boot }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_processor_is_shared_by_all() {
        assert_eq!(place(&[5], None), Placement { control: 5, boot: vec![5] });
        assert_eq!(place(&[5], Some(4)), Placement { control: 5, boot: vec![5] });
    }

    #[test]
    fn two_processors_are_parted() {
        assert_eq!(place(&[0, 1], None), Placement { control: 0, boot: vec![1] });
    }

    #[test]
    fn boot_cores_stay_inside_the_mask_and_below_the_wanted_number() {
        assert_eq!(place(&[2, 3, 6, 7], None).boot, vec![3, 6, 7]);
        assert_eq!(place(&[2, 3, 6, 7], Some(2)).boot, vec![3, 6]);
        assert_eq!(place(&[2, 3, 6, 7], Some(9)).boot, vec![3, 6, 7]);
        assert_eq!(place(&[2, 3, 6, 7], Some(0)).boot, vec![3]);
    }
}
