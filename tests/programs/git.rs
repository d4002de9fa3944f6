//! git.

use crate::scene::parts;
use crate::twins::Twins;

/// What makes two runs of git give the same hashes.
const SETTINGS: &str = "
export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=Alice GIT_AUTHOR_EMAIL=alice@example.com
export GIT_COMMITTER_NAME=Alice GIT_COMMITTER_EMAIL=alice@example.com
export GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z'
export GIT_PAGER=cat GIT_MERGE_AUTOEDIT=no
";

#[test]
fn a_repository_lives_on_the_mount() {
    if !parts::are_here(
        "a_repository_lives_on_the_mount",
        &["git"],
        "apt-get install git",
    ) {
        return;
    }
    let twins = Twins::new();
    let run = |script: &str| twins.run(&format!("{SETTINGS}{script}"));
    run("git init --quiet --initial-branch=main repo
         cat repo/.git/config");
    run("cd repo
         mkdir -p src/deep
         for n in $(seq 20); do echo \"line $n\" >src/$n.txt; done
         echo deep >src/deep/file
         printf '#!/bin/sh\\necho hi\\n' >run; chmod +x run
         ln -s src/1.txt link
         head -c 300000 /dev/zero >zeros
         git add --all
         git commit --quiet --message=one
         git status --porcelain
         git log --format='%H %s'");
    run("cd repo
         git checkout --quiet -b side
         echo more >>src/1.txt
         git rm --quiet src/2.txt
         git mv src/3.txt src/deep/three
         git commit --quiet --all --message=side
         git checkout --quiet main
         echo other >>src/4.txt
         git commit --quiet --all --message=main
         git merge --quiet side
         git stash list
         git log --format='%H %s' --graph
         git diff --stat HEAD~1
         ./run");
    let ran = run("git clone --quiet repo copy
         git -C copy status --porcelain --branch
         git -C copy fsck --full
         git -C copy rev-list --all --objects | sort");
    assert!(ran.contains("## main...origin/main"), "{ran}");
    run("cd repo
         git gc --quiet --prune=now
         git fsck --full --strict
         git count-objects --verbose | grep -E '^(count|in-pack|packs|prune-packable|garbage):'
         git rev-list --all --objects | sort
         git status --porcelain
         git push --quiet ../copy main:pushed
         git -C ../copy rev-parse pushed");
    run("git -C copy checkout --quiet pushed
         git -C copy worktree add --quiet ../tree main
         git -C copy worktree list | sed 's/  */ /'
         rm -r tree
         git -C copy worktree prune --verbose");
    // Inside of .git, times and inode numbers are part of the content.
    twins.assert_same_trees_but(&|path| !path.ends_with(".git"));
    twins.run("find . -path '*/.git/*' -not -path '*/objects/*' -printf '%y %m %p\\n' | sort");
}
