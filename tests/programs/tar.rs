//! tar.

use crate::scene::{noise, parts};
use crate::twins::Twins;

/// A tree with everything that can be both in an archive and in a bucket.
pub const GROW: &str = "
mkdir -p tree/sub/deeper tree/empty 'tree/with space' tree/ünïcödé
echo text >tree/a.txt
: >tree/nothing
head -c 5000000 ../source/noise >tree/big.bin
for n in $(seq 30); do echo \"$n\" >tree/sub/$n; done
echo deep >tree/sub/deeper/file
echo blank >'tree/with space/a file'
echo umlaut >tree/ünïcödé/größe.txt
ln -s a.txt tree/link
ln -s ../nowhere tree/sub/dangling
ln -s sub tree/folder
chmod 600 tree/a.txt; chmod 755 tree/sub/1; chmod 444 tree/sub/2; chmod 4750 tree/sub/3
chmod 700 tree/empty; chmod 1777 tree/sub/deeper
if [ \"$(id -u)\" = 0 ]; then
    chown 1000:1001 tree/a.txt tree/empty
    chown -h 1002:1003 tree/link
fi
find tree -depth -exec touch -h -d '2020-02-02 02:02:02' {} +
touch -d '2001-02-03 04:05:06.789' tree/a.txt
touch -d '1969-12-31 23:59:50' tree/sub/4
touch -d '2030-01-01' tree/sub/5
touch -h -d '2010-10-10' tree/link
";

#[test]
fn an_archive_goes_in_and_comes_out() {
    let (test, needed) = ("an_archive_goes_in_and_comes_out", ["tar", "gzip"]);
    if !parts::are_here(test, &needed, "apt-get install tar gzip") {
        return;
    }
    let mut twins = Twins::new();
    std::fs::write(twins.source().join("noise"), noise(1, 8_000_000)).unwrap();
    twins.run(GROW);
    twins.assert_same_trees();
    let listed = twins.run(
        "tar() { command tar --warning=no-timestamp \"$@\"; }
         tar --create --sort=name --file=archive.tar tree
         tar --list --verbose --full-time --file=archive.tar
         sha256sum archive.tar
         tar --compare --file=archive.tar",
    );
    assert!(listed.contains("größe.txt"), "{listed}");
    twins.run(
        "tar() { command tar --warning=no-timestamp \"$@\"; }
         mkdir out
         tar --extract --preserve-permissions --same-owner --file=archive.tar --directory=out
         tar --create --gzip --sort=name --file=again.tar.gz --directory=out tree
         gzip --decompress <again.tar.gz | cmp - archive.tar
         tar --extract --file=archive.tar --directory=out --overwrite
         tar --append --file=archive.tar tree/a.txt
         tar --delete --file=archive.tar tree/big.bin
         tar --list --file=archive.tar | sort",
    );
    // The compressed one has the time of its making in it.
    let kept = |path: &str| path != "again.tar.gz";
    twins.assert_same_trees_but(&kept);
    twins.remount();
    twins.assert_same_trees_but(&kept);
}
