//! Kernel AIO on descriptors that bypass the page cache, beside readers that use it.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::scene::{Scene, noise};

/// Of the kernel's pages, and of the file's blocks as `O_DIRECT` wants them.
const PAGE: usize = 4096;

/// Pages of the file.
const PAGES: usize = 64;

/// An aligned page.
#[repr(align(4096))]
struct Page([u8; PAGE]);

/// One request and one answer of io_submit(2): include/uapi/linux/aio_abi.h.
#[repr(C)]
#[derive(Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: i32,
    opcode: u16,
    priority: i16,
    descriptor: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event: u32,
}

#[repr(C)]
#[derive(Default)]
struct Event {
    data: u64,
    object: u64,
    result: i64,
    result2: i64,
}

/// `IOCB_CMD_PWRITE`.
const WRITE: u16 = 1;

/// A context of io_setup(2); `None` where the kernel has none.
fn context() -> Option<u64> {
    let mut context = 0_u64;
    // SAFETY: the kernel writes one word, which is there.
    #[allow(unsafe_code)]
    let outcome = unsafe { libc::syscall(libc::SYS_io_setup, 8, &raw mut context) };
    (outcome == 0).then_some(context)
}

/// Writes one page by AIO, and returns when that has completed.
fn write(context: u64, file: &File, offset: usize, page: &Page) {
    let mut request = Iocb {
        opcode: WRITE,
        descriptor: u32::try_from(file.as_raw_fd()).unwrap(),
        buffer: page.0.as_ptr() as u64,
        bytes: PAGE as u64,
        offset: i64::try_from(offset).unwrap(),
        ..Iocb::default()
    };
    let mut requests = [&raw mut request];
    let mut event = Event::default();
    let none = std::ptr::null::<libc::timespec>();
    // SAFETY: request, page and event outlive the calls, of which the second waits for the answer.
    #[allow(unsafe_code)]
    let (submitted, answered) = unsafe {
        (
            libc::syscall(libc::SYS_io_submit, context, 1, requests.as_mut_ptr()),
            libc::syscall(libc::SYS_io_getevents, context, 1, 1, &raw mut event, none),
        )
    };
    assert_eq!((submitted, answered), (1, 1));
    assert_eq!(event.result, PAGE as i64);
}

#[test]
fn a_read_gives_what_asynchronous_writes_have_written() {
    let scene = Scene::new();
    scene.bucket.put("f", noise(1, PAGES * PAGE));
    let mount = scene.mount(&["--metadata-ttl", "60"]);
    let path = mount.file("f");
    let Some(context) = context() else {
        return crate::scene::parts::skip("asynchronous writes", "the kernel has no AIO");
    };
    let direct = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path)
        .unwrap();
    let readers: Vec<File> = (0..3).map(|_| File::open(&path).unwrap()).collect();
    let is_over = AtomicBool::new(false);
    let mut stale = 0;
    thread::scope(|scope| {
        for reader in &readers[1..] {
            scope.spawn(|| {
                let mut bytes = vec![0; PAGES * PAGE];
                while !is_over.load(Ordering::Relaxed) {
                    reader.read_exact_at(&mut bytes, 0).unwrap();
                }
            });
        }
        let mut read = vec![0; PAGE];
        for round in 0..200_u64 {
            let at = usize::try_from(round * 7919).unwrap() % PAGES * PAGE;
            let mut page = Box::new(Page([0; PAGE]));
            page.0.copy_from_slice(&noise(round + 2, PAGE));
            write(context, &direct, at, &page);
            readers[0].read_exact_at(&mut read, at as u64).unwrap();
            stale += usize::from(read[..] != page.0[..]);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(stale, 0, "so many of 200 reads gave old bytes");
}
