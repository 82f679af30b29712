//! What the operator wrote (`file`), what it means (`resolve`), and what is wrong with it (`problem`).
