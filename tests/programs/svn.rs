//! Subversion: the repository and two working copies.

use crate::scene::parts;
use crate::twins::Twins;

#[test]
fn subversion_commits_updates_and_verifies() {
    let test = "subversion_commits_updates_and_verifies";
    if !parts::are_here(test, &["svn", "svnadmin"], "apt-get install subversion") {
        return;
    }
    let mut twins = Twins::new();
    twins.run_through_an_end(
        100,
        "svnadmin create repo
         svn checkout --quiet \"file://$PWD/repo\" one; cd one
         mkdir d; for n in $(seq 15); do echo $n >d/$n; done
         svn add --quiet d; svn commit --message first
         echo more >>d/1; svn rm --quiet d/2; svn mv --quiet d/3 d/three; svn commit --message second
         svn copy --quiet d branch; svn propset --quiet svn:executable yes d/4
         svn commit --quiet --message third; svn update --quiet; svn status",
    );
    twins.remount();
    twins.run(
        "svn checkout --quiet \"file://$PWD/repo\" two; diff -r --exclude=.svn one two
         echo here >>two/d/5; echo there >>one/d/6
         svn commit --quiet --message fourth two; svn update one | grep -v '^Updating'
         svn commit --quiet --message fifth one; svn update --quiet two; cat two/d/6 one/d/5
         svn log --quiet two | cut -d '|' -f 1,2; svn cleanup one; svnadmin verify --quiet repo",
    );
    twins.assert_same_trees_but(&|path| path != "repo" && !path.ends_with(".svn"));
}
