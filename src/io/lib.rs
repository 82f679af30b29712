//! The machine below the server: io_uring, sockets and clocks in [`engine`], mapped boot images in
//! [`images`].
//!
//! These two rooms are the only ones of ringboot in which `unsafe` may stand, each block with its
//! proof. What they offer is safe to call.
//!
//! ```
//! use ringboot_io::images::clean_path_name;
//!
//! assert!(clean_path_name(b"pxelinux.cfg/default").is_ok());
//! assert!(clean_path_name(b"../../etc/shadow").is_err());
//! ```

#[allow(unsafe_code)]
pub mod engine;
#[allow(unsafe_code)]
pub mod images;
