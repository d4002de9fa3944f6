#!/bin/bash
# A box in which a real systemd runs, with a user manager for an ordinary user: what a unit does
# can be seen nowhere else. The box is this machine's own root file system; whatever is written to
# it is thrown away.
#
#   userbox.sh boot HOME             boots, prints "ready LEADER", ends when its standard input does
#   userbox.sh run LEADER COMMAND... runs a command in the box as the user `tester`
#   userbox.sh log LEADER            prints the end of the box's journal
#
# HOME is a directory of this machine. It becomes the user's home, at the same path inside and
# outside, so that a test can put files there and talk through pipes. It is given to the user.
#
# The loopback network is this machine's: servers of a test on 127.0.0.1 can be reached.
#
# Needs root, and Debian's packages systemd-container, fuse3 and dbus-user-session.
set -eu

USER_ID=4242
RUNTIME=/run/user/$USER_ID

# Runs a command in the box as root.
enter() {
    local leader=$1
    shift
    nsenter --target "$leader" --all --wdns=/ "$@"
}

case $1 in
run)
    leader=$2
    shift 2
    # The environment is what `systemctl --user` needs, and nothing of this machine's.
    enter "$leader" runuser -u tester -- \
        env -i PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 XDG_RUNTIME_DIR=$RUNTIME "$@"
    exit
    ;;
log)
    enter "$2" journalctl --no-pager --lines=100
    exit
    ;;
boot)
    # In a mount namespace of its own, so that the mounts go with this process, however it ends.
    exec unshare --mount --propagation private -- "$BASH" "$0" boot-here "$2"
    ;;
boot-here) ;;
*)
    echo "usage: $0 boot HOME | run LEADER COMMAND... | log LEADER" >&2
    exit 2
    ;;
esac

home=$2
box=$(mktemp --directory --tmpdir userbox.XXXXXX)
groups=()
nspawn=

end() {
    set +e
    trap - EXIT
    if [ -n "$nspawn" ]; then
        # Not in an orderly way, which takes seconds: nothing in the box is kept. With its process
        # 1 everything in it dies, and nspawn ends.
        pkill -KILL --parent "$nspawn"
        for _ in $(seq 50); do
            kill -0 "$nspawn" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$nspawn" 2>/dev/null
        wait "$nspawn" 2>/dev/null
    fi
    for group in "${groups[@]}"; do
        find "$group" -depth -type d -exec rmdir {} \;
    done
    umount --lazy "$box/root" "$box"
    rmdir "$box"
}
trap end EXIT
# The end is told through standard input; Ctrl-C, which everybody in the terminal's foreground
# gets, must not cut the clean-up short.
trap '' INT HUP

# In memory: an overlay's upper directory cannot be on an overlay, which a container's root is.
mount -t tmpfs -o mode=0755 userbox "$box"
mkdir "$box"/{upper,work,root}
mount -t overlay -o "lowerdir=/,upperdir=$box/upper,workdir=$box/work" userbox "$box/root"
etc=$box/root/etc

# fusermount3 opens the device with the user's rights, so everybody must be able to. A node of our
# own, because a changed mode of this machine's would outlive the box.
mknod --mode=0666 "$box/fuse" c 10 229

# The machine may have one of that name.
chroot "$box/root" userdel -f tester 2>/dev/null || true
chroot "$box/root" useradd --no-create-home --home-dir "$home" --uid $USER_ID tester
chown --recursive $USER_ID:$USER_ID "$home"
# The user manager starts without a login.
mkdir -p "$box/root/var/lib/systemd/linger"
touch "$box/root/var/lib/systemd/linger/tester"

# Logins are all that is wanted. Above all no server of this machine may start a second time: the
# network is shared, and it would take the first one's port.
rm -f "$etc/systemd/system/default.target"
cat >"$etc/systemd/system/default.target" <<'UNIT'
[Unit]
Description=Logins and nothing else
Requires=sysinit.target
Wants=dbus.socket systemd-logind.service
After=sysinit.target dbus.socket systemd-logind.service
UNIT
# These come before any target.
for unit in nftables systemd-networkd systemd-resolved systemd-timesyncd; do
    ln -sf /dev/null "$etc/systemd/system/$unit.service"
done
# This machine's disks and network shares are not for the box.
: >"$etc/fstab"
# Booting empties /tmp, where HOME may be.
mkdir -p "$etc/tmpfiles.d" "$etc/systemd/journald.conf.d"
ln -sf /dev/null "$etc/tmpfiles.d/tmp.conf"
# This machine's old logs would be copied into memory.
printf '[Journal]\nStorage=volatile\n' >"$etc/systemd/journald.conf.d/userbox.conf"

# nspawn takes the control group that it is started in. Two boxes in one would end each other's
# services, so each gets a group of its own.
while IFS=: read -r _ controllers path; do
    case $controllers in
    name=systemd) parent=/sys/fs/cgroup/systemd$path ;;
    '')
        parent=/sys/fs/cgroup/unified$path
        [ -d "$parent" ] || parent=/sys/fs/cgroup$path
        ;;
    *) continue ;;
    esac
    groups+=("${parent%/}/${box##*/}")
done </proc/self/cgroup
mkdir "${groups[@]}"

# --keep-unit and --register=no: there need not be a systemd outside. SIGTERM shuts the box down,
# should this script be killed.
(
    for group in "${groups[@]}"; do
        echo "$BASHPID" >"$group/cgroup.procs"
    done
    exec setpriv --pdeathsig TERM systemd-nspawn --quiet --directory="$box/root" --boot \
        --machine="${box##*.}" --register=no --keep-unit --link-journal=no --console=pipe \
        --bind="$box/fuse:/dev/fuse" --bind="$home"
) </dev/null >"$box/boot.log" 2>&1 &
nspawn=$!

for _ in $(seq 300); do
    # nspawn's first child only prepares the second, which is the box's process 1.
    for leader in $(pgrep --parent "$nspawn"); do
        if enter "$leader" test -S $RUNTIME/systemd/private 2>/dev/null; then
            echo "ready $leader"
            # Until the other end is closed.
            read -r _ || true
            exit 0
        fi
    done
    kill -0 "$nspawn" 2>/dev/null || break
    sleep 0.1
done
echo "the box does not boot:" >&2
cat "$box/boot.log" >&2
exit 1
