//! Copies of stores that nobody has open.

use std::fs;
use std::path::Path;

/// Copies everything in `from` into `to`, which is made if it is not there.
pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory can be made");
    for entry in fs::read_dir(from).expect("it reads") {
        let path = entry.expect("it reads").path();
        let target = to.join(path.file_name().expect("it has a name"));
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            fs::copy(&path, &target).expect("it can be copied");
        }
    }
}
