//! A control group of a test's own: processes in it have little memory and, where the kernel can, a
//! slow disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Removed when dropped; whoever was in it must have ended by then.
pub struct Group {
    /// Its directories: one in version 2, one for memory and one for disks in version 1.
    memory: PathBuf,
    disk: Option<PathBuf>,
    is_v2: bool,
}

impl Group {
    /// A group with so many bytes of memory. Fails the test where groups cannot be made, and says
    /// what it takes.
    pub fn new(name: &str, memory_max: u64) -> Self {
        let name = format!("ringboot-{name}-{}", std::process::id());
        let group = Self::v2(&name).or_else(|| Self::v1(&name)).unwrap_or_else(|| {
            panic!(
                "this test makes a control group with a memory limit: run it as root, on a machine \
                 whose /sys/fs/cgroup can be written and has the memory controller (in a \
                 container: --privileged --cgroupns=host)"
            )
        });
        let file = if group.is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(group.memory.join(file), memory_max.to_string()).expect("the limit of the group");
        group
    }

    fn v2(name: &str) -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).ok()?;
        for controller in ["memory", "io"]
            .iter()
            .filter(|one| controllers.split_whitespace().any(|has| has == **one))
        {
            let _ = fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        let memory = root.join(name);
        fs::create_dir(&memory).ok()?;
        let group = Self { disk: Some(memory.clone()), memory, is_v2: true };
        group.memory.join("memory.max").exists().then_some(group)
    }

    fn v1(name: &str) -> Option<Self> {
        let made = |controller: &str| {
            let directory = Path::new("/sys/fs/cgroup").join(controller).join(name);
            fs::create_dir(&directory).ok().map(|()| directory)
        };
        let memory = made("memory")?;
        Some(Self { memory, disk: made("blkio"), is_v2: false })
    }

    /// Lets processes of the group read so many bytes a second from the disk that holds this file.
    /// False: this kernel or this file system cannot.
    pub fn slow_disk(&self, file: &Path, bytes_per_second: u64) -> bool {
        let device = fs::metadata(file).expect("the file").dev();
        let Some((group, disk)) = self.disk.as_ref().zip(whole_disk(device)) else { return false };
        match self.is_v2 {
            true => {
                fs::write(group.join("io.max"), format!("{disk} rbps={bytes_per_second}")).is_ok()
            }
            false => fs::write(
                group.join("blkio.throttle.read_bps_device"),
                format!("{disk} {bytes_per_second}"),
            )
            .is_ok(),
        }
    }

    /// The command, run inside the group. It stays one process.
    pub fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("sh");
        let enter: String = [Some(&self.memory), self.disk.as_ref()]
            .into_iter()
            .flatten()
            .map(|group| format!("echo $$ > {}/cgroup.procs && ", group.display()))
            .collect();
        inside
            .args(["-c", &format!("{enter}exec \"$@\""), "sh"])
            .arg(command.get_program())
            .args(command.get_args());
        inside
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for group in [Some(&self.memory), self.disk.as_ref()].into_iter().flatten() {
            let _ = fs::remove_dir(group);
        }
    }
}

/// `major:minor` of the disk that holds this device, which may be a partition of it.
fn whole_disk(device: u64) -> Option<String> {
    let (major, minor) =
        (device >> 8 & 0xfff | device >> 32 & !0xfff, device & 0xff | device >> 12 & !0xff);
    let directory = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let disk = if directory.join("partition").exists() { directory.parent()? } else { &directory };
    fs::read_to_string(disk.join("dev")).ok().map(|text| text.trim().to_owned())
}
