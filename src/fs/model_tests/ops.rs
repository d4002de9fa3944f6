//! What can happen: operations and faults as data, so that a failing sequence can be shrunk.
//!
//! Operations name what they are about by numbers, which are taken modulo what there is when
//! their turn comes. So every part of a sequence is a sequence.

use std::fmt;
use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Names that are made: plain, of a known type, awkward in keys and headers, and long.
pub(super) const NAMES: [&str; 8] = [
    "a",
    "b",
    "c.txt",
    "a-1",
    "ä b",
    "x+y%20&z=~",
    "it's (1).tar.gz",
    "long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-\
     long-long-long-long-long-long-long-long-long-long-long-long-long-long-name",
];

/// Names of extended attributes.
pub(super) const XATTRS: [&str; 3] = ["user.a", "user.b", "user.ä b"];

/// Where a name is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// One of the files that there are.
    File(u8),
    /// One of the directories, the root not among them.
    Directory(u8),
    /// One of all names that there are.
    Any(u8),
    /// A name in one of the directories, whether it is there or not.
    In(u8, u8),
    /// A name below one of all names, which need not be a directory.
    Below(u8, u8),
}

/// Some bytes: they repeat themselves after 251, and differ with the seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blob {
    pub(super) seed: u8,
    pub(super) length: u32,
}

impl Blob {
    pub(super) fn bytes(self) -> Vec<u8> {
        let seed = usize::from(self.seed) * 7;
        let cycle: Vec<u8> = (0..251)
            .map(|i| u8::try_from((i + seed) % 251 + 1).unwrap())
            .collect();
        let length = self.length as usize;
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let more = cycle.len().min(length - bytes.len());
            bytes.extend_from_slice(&cycle[..more]);
        }
        bytes
    }
}

/// How a file is opened, besides for writing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flags {
    pub(super) reads: bool,
    pub(super) writes: bool,
    pub(super) truncate: bool,
    pub(super) append: bool,
}

/// What becomes of the daemon.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// It is unmounted: everything is closed and stored.
    Unmounted,
    /// All files are closed, and it ends before what `--write-back` left is stored.
    Closed,
    /// It dies while files are open.
    Killed,
    /// The network is gone when all files are closed, and then it ends.
    Offline,
}

/// One operation.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Create {
        at: Place,
        mode: u32,
        exclusive: bool,
        flags: Flags,
    },
    MakeNode(Place, u32),
    Open(Place, Flags),
    Read {
        handle: u8,
        offset: u32,
        length: u32,
    },
    Write {
        handle: u8,
        offset: u32,
        blob: Blob,
    },
    Resize {
        handle: u8,
        size: u32,
    },
    Truncate(Place, u32),
    Allocate {
        handle: u8,
        kind: Allocation,
        range: Range<u32>,
    },
    CopyRange {
        from: u8,
        to: u8,
        from_offset: u32,
        to_offset: u32,
        length: u32,
    },
    Sync(u8),
    Close(u8),
    StatHandle(u8),
    ChangeModeOfHandle(u8, u32),
    Unlink(Place),
    MakeDirectory(Place, u32),
    RemoveDirectory(Place),
    Rename {
        from: Place,
        to: Place,
        keep_target: bool,
    },
    Symlink(Place, u8),
    ReadLink(Place),
    Stat(Place),
    ChangeMode(Place, u32),
    SetTimes(Place, u32),
    GetXattr(Place, u8),
    SetXattr {
        at: Place,
        name: u8,
        value: Blob,
        how: Setting,
    },
    RemoveXattr(Place, u8),
    ListXattrs(Place),
    List(Place),
    OpenDirectory(Place),
    ListAgain(u8),
    CloseDirectory(u8),
    /// The kernel forgets what it need not know.
    Forget,
    /// What the daemon does every second.
    Tidy,
    /// Everything is compared.
    Compare,
    Remount(End),
}

/// What fallocate(2) is to do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Allocation {
    Grow,
    Reserve,
    Punch,
    Zero,
    ZeroKeepingSize,
}

/// How setxattr(2) is to do it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Setting {
    Either,
    Create,
    Replace,
}

/// What goes wrong during one operation.
#[derive(Debug, Clone, Copy)]
pub(super) enum Trouble {
    /// The `nth` request is answered 503.
    Busy { nth: u8, times: u8 },
    /// The connection of the `nth` request is closed, and nothing is done.
    Drop { nth: u8, times: u8 },
    /// The `nth` request is served, and its answer is lost.
    Lose { nth: u8, times: u8 },
    /// The `nth` request that changes something is served, and its answer is lost.
    LoseWrite { nth: u8, times: u8 },
    /// The `nth` body of an object breaks off.
    Truncate { nth: u8, after: u8 },
    /// The session has expired when the `nth` request arrives.
    ExpireBefore(u8),
    /// The session expires right after the `nth` request.
    ExpireAfter(u8),
    /// The session has reached its end, which the daemon knows.
    Outlive,
}

/// An operation, and what goes wrong meanwhile.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) op: Op,
    pub(super) trouble: Option<Trouble>,
}

/// How a mount is set up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub(super) write_back: bool,
    /// Whether what S3 said is believed for a while.
    pub(super) believes: bool,
    /// Whether the kernel forgets everything after each operation.
    pub(super) forgetful: bool,
    pub(super) posix_metadata: bool,
    /// Whether the mount shows a prefix, and not the whole bucket.
    pub(super) prefixed: bool,
    /// Whether the index is read from its file after a remount.
    pub(super) index_file: bool,
    /// Whether somebody else's tools have put files there before.
    pub(super) furnished: bool,
}

/// A whole sequence.
#[derive(Clone)]
pub(super) struct Sequence {
    pub(super) setup: Setup,
    pub(super) steps: Vec<Step>,
}

impl fmt::Debug for Sequence {
    /// A line for each step, whatever is asked for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let setup = self.setup;
        f.write_str(&format!("{setup:?}"))?;
        for Step { op, trouble } in &self.steps {
            let (op, trouble) = (format!("{op:?}"), format!("{trouble:?}"));
            write!(f, "\n    {op}, {trouble}")?;
        }
        Ok(())
    }
}

/// How large files get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// Some bytes, rarely some blocks, never a multipart upload.
    Small,
    /// Around 5 and 16 MiB, where parts begin and files are no longer stored at once.
    Large,
}

const MIB: u32 = 1 << 20;

/// Offsets and sizes.
fn extent(scale: Scale) -> BoxedStrategy<u32> {
    match scale {
        Scale::Small => prop_oneof![
            40 => 0_u32..300,
            4 => 65_500_u32..65_600,
            3 => 0_u32..200_000,
            1 => (MIB - 100)..(MIB + 100),
        ]
        .boxed(),
        Scale::Large => prop_oneof![
            2 => 0_u32..300,
            1 => (5 * MIB - 2)..(5 * MIB + 2),
            2 => (16 * MIB - 2)..(16 * MIB + 2),
            2 => 0..(24 * MIB),
        ]
        .boxed(),
    }
}

fn blob(scale: Scale) -> impl Strategy<Value = Blob> {
    let length = match scale {
        Scale::Small => prop_oneof![40 => 0_u32..200, 2 => 0_u32..70_000].boxed(),
        Scale::Large => prop_oneof![
            3 => 0_u32..300,
            2 => Just(MIB),
            2 => (5 * MIB)..(6 * MIB),
            3 => (16 * MIB)..(18 * MIB),
        ]
        .boxed(),
    };
    (any::<u8>(), length).prop_map(|(seed, length)| Blob { seed, length })
}

fn file() -> impl Strategy<Value = Place> {
    prop_oneof![
        12 => any::<u8>().prop_map(Place::File),
        2 => any::<u8>().prop_map(Place::Any),
        1 => any::<(u8, u8)>().prop_map(|(d, n)| Place::In(d, n)),
        1 => any::<(u8, u8)>().prop_map(|(d, n)| Place::Below(d, n)),
    ]
}

fn directory() -> impl Strategy<Value = Place> {
    prop_oneof![
        12 => any::<u8>().prop_map(Place::Directory),
        1 => any::<u8>().prop_map(Place::Any),
        1 => any::<(u8, u8)>().prop_map(|(d, n)| Place::Below(d, n)),
    ]
}

fn anything() -> impl Strategy<Value = Place> {
    prop_oneof![
        12 => any::<u8>().prop_map(Place::Any),
        2 => any::<(u8, u8)>().prop_map(|(d, n)| Place::In(d, n)),
        1 => any::<(u8, u8)>().prop_map(|(d, n)| Place::Below(d, n)),
    ]
}

/// A place for something new, mostly.
fn name() -> impl Strategy<Value = Place> {
    prop_oneof![
        12 => any::<(u8, u8)>().prop_map(|(d, n)| Place::In(d, n)),
        2 => any::<u8>().prop_map(Place::Any),
        1 => any::<(u8, u8)>().prop_map(|(d, n)| Place::Below(d, n)),
    ]
}

/// Modes with which an owner who is not root can go on.
fn mode() -> impl Strategy<Value = u32> {
    select(vec![0o600_u32, 0o644, 0o640, 0o755, 0o777])
}

fn directory_mode() -> impl Strategy<Value = u32> {
    select(vec![0o700_u32, 0o755, 0o1777, 0o2755])
}

fn flags() -> impl Strategy<Value = Flags> {
    let access = select(vec![
        (true, false),
        (false, true),
        (true, true),
        (true, true),
    ]);
    let rarely = || prop::bool::weighted(0.2);
    (access, rarely(), rarely()).prop_map(|((reads, writes), truncate, append)| Flags {
        reads,
        writes,
        truncate: truncate && writes,
        append: append && writes,
    })
}

fn on_handles(scale: Scale) -> BoxedStrategy<Op> {
    let handle = any::<u8>;
    let length = || match scale {
        Scale::Small => prop_oneof![20 => 0_u32..400, 1 => Just(200_000_u32)].boxed(),
        Scale::Large => prop_oneof![1 => 0_u32..400, 1 => Just(24 * MIB)].boxed(),
    };
    let allocation = select(vec![
        Allocation::Grow,
        Allocation::Reserve,
        Allocation::Punch,
        Allocation::Zero,
        Allocation::ZeroKeepingSize,
    ]);
    prop_oneof![
        6 => (handle(), extent(scale), length())
            .prop_map(|(handle, offset, length)| Op::Read { handle, offset, length }),
        10 => (handle(), extent(scale), blob(scale))
            .prop_map(|(handle, offset, blob)| Op::Write { handle, offset, blob }),
        3 => (handle(), extent(scale)).prop_map(|(handle, size)| Op::Resize { handle, size }),
        2 => (handle(), allocation, extent(scale), extent(scale)).prop_map(
            |(handle, kind, start, length)| Op::Allocate {
                handle,
                kind,
                range: start..start + length.max(1),
            }
        ),
        2 => (handle(), handle(), extent(scale), extent(scale), extent(scale)).prop_map(
            |(from, to, from_offset, to_offset, length)| Op::CopyRange {
                from,
                to,
                from_offset,
                to_offset,
                length,
            }
        ),
        3 => handle().prop_map(Op::Sync),
        6 => handle().prop_map(Op::Close),
        2 => handle().prop_map(Op::StatHandle),
        1 => (handle(), mode()).prop_map(|(handle, mode)| Op::ChangeModeOfHandle(handle, mode)),
    ]
    .boxed()
}

fn on_names(scale: Scale) -> BoxedStrategy<Op> {
    let create = (name(), mode(), prop::bool::weighted(0.2), flags()).prop_map(
        |(at, mode, exclusive, flags)| Op::Create {
            at,
            mode,
            exclusive,
            flags,
        },
    );
    let target = prop_oneof![3 => name().boxed(), 2 => anything().boxed()];
    let rename =
        (anything(), target, prop::bool::weighted(0.2)).prop_map(|(from, to, keep_target)| {
            Op::Rename {
                from,
                to,
                keep_target,
            }
        });
    prop_oneof![
        8 => create,
        1 => (name(), mode()).prop_map(|(at, mode)| Op::MakeNode(at, mode)),
        8 => (file(), flags()).prop_map(|(at, flags)| Op::Open(at, flags)),
        2 => (file(), extent(scale)).prop_map(|(at, size)| Op::Truncate(at, size)),
        5 => file().prop_map(Op::Unlink),
        5 => (name(), directory_mode()).prop_map(|(at, mode)| Op::MakeDirectory(at, mode)),
        2 => directory().prop_map(Op::RemoveDirectory),
        7 => rename,
        2 => (name(), any::<u8>()).prop_map(|(at, target)| Op::Symlink(at, target)),
        1 => anything().prop_map(Op::ReadLink),
        2 => anything().prop_map(Op::Stat),
        1 => directory().prop_map(Op::List),
    ]
    .boxed()
}

fn on_attributes() -> BoxedStrategy<Op> {
    let setting = select(vec![
        Setting::Either,
        Setting::Either,
        Setting::Create,
        Setting::Replace,
    ]);
    let value = (any::<u8>(), 0_u32..40).prop_map(|(seed, length)| Blob { seed, length });
    prop_oneof![
        3 => (anything(), mode()).prop_map(|(at, mode)| Op::ChangeMode(at, mode)),
        3 => (anything(), any::<u32>()).prop_map(|(at, time)| Op::SetTimes(at, time)),
        3 => (anything(), any::<u8>(), value, setting)
            .prop_map(|(at, name, value, how)| Op::SetXattr { at, name, value, how }),
        2 => (anything(), any::<u8>()).prop_map(|(at, name)| Op::GetXattr(at, name)),
        1 => (anything(), any::<u8>()).prop_map(|(at, name)| Op::RemoveXattr(at, name)),
        1 => anything().prop_map(Op::ListXattrs),
    ]
    .boxed()
}

fn on_everything() -> BoxedStrategy<Op> {
    let end = select(vec![
        End::Unmounted,
        End::Closed,
        End::Killed,
        End::Killed,
        End::Offline,
    ]);
    prop_oneof![
        2 => directory().prop_map(Op::OpenDirectory),
        2 => any::<u8>().prop_map(Op::ListAgain),
        1 => any::<u8>().prop_map(Op::CloseDirectory),
        2 => Just(Op::Forget),
        1 => Just(Op::Tidy),
        1 => Just(Op::Compare),
        3 => end.prop_map(Op::Remount),
    ]
    .boxed()
}

fn trouble() -> impl Strategy<Value = Option<Trouble>> {
    let nth = || 1_u8..5;
    let times = || 1_u8..4;
    let pair = || (nth(), times());
    prop_oneof![
        60 => Just(None),
        3 => pair().prop_map(|(nth, times)| Some(Trouble::Busy { nth, times })),
        3 => pair().prop_map(|(nth, times)| Some(Trouble::Drop { nth, times })),
        3 => pair().prop_map(|(nth, times)| Some(Trouble::Lose { nth, times })),
        4 => pair().prop_map(|(nth, times)| Some(Trouble::LoseWrite { nth, times })),
        1 => (nth(), any::<u8>()).prop_map(|(nth, after)| Some(Trouble::Truncate { nth, after })),
        2 => nth().prop_map(|nth| Some(Trouble::ExpireBefore(nth))),
        2 => nth().prop_map(|nth| Some(Trouble::ExpireAfter(nth))),
        1 => Just(Some(Trouble::Outlive)),
    ]
}

/// What sequences begin with, so that there is something to work on.
fn beginning() -> impl Strategy<Value = Op> {
    let create = (any::<(u8, u8)>(), mode()).prop_map(|((directory, name), mode)| Op::Create {
        at: Place::In(directory, name),
        mode,
        exclusive: false,
        flags: Flags {
            reads: true,
            writes: true,
            truncate: false,
            append: false,
        },
    });
    let directory = (any::<(u8, u8)>(), directory_mode())
        .prop_map(|((directory, name), mode)| Op::MakeDirectory(Place::In(directory, name), mode));
    let write = (any::<u8>(), blob(Scale::Small)).prop_map(|(handle, blob)| Op::Write {
        handle,
        offset: 0,
        blob,
    });
    prop_oneof![3 => create, 2 => directory, 2 => write]
}

/// Sequences of at most so many steps.
pub(super) fn sequences(scale: Scale, most: usize) -> impl Strategy<Value = Sequence> {
    let op = prop_oneof![
        10 => on_handles(scale),
        10 => on_names(scale),
        3 => on_attributes(),
        3 => on_everything(),
    ];
    let step = (op, trouble()).prop_map(|(op, trouble)| Step { op, trouble });
    let rarely = || prop::bool::weighted(0.2);
    let often = || prop::bool::weighted(0.5);
    let setup = (
        prop::bool::weighted(0.3),
        often(),
        rarely(),
        rarely(),
        often(),
        rarely(),
        rarely(),
    )
        .prop_map(
            |(write_back, believes, forgetful, posix_metadata, prefixed, index_file, furnished)| {
                Setup {
                    write_back,
                    believes,
                    forgetful,
                    posix_metadata,
                    prefixed,
                    index_file,
                    furnished,
                }
            },
        );
    let beginning = vec(beginning().prop_map(|op| Step { op, trouble: None }), 0..4);
    (setup, beginning, vec(step, 1..most)).prop_map(|(setup, mut steps, more)| {
        steps.extend(more);
        Sequence { setup, steps }
    })
}
