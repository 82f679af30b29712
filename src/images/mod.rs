//! Boot images: names under the root become contents that cores can send without touching a disk.
