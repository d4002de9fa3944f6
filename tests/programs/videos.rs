//! ffmpeg.

use crate::scene::parts;
use crate::twins::Twins;

#[test]
fn ffmpeg_writes_cuts_and_reads_a_film() {
    let test = "ffmpeg_writes_cuts_and_reads_a_film";
    if !parts::are_here(test, &["ffmpeg", "ffprobe"], "apt-get install ffmpeg") {
        return;
    }
    let mut twins = Twins::new();
    // The same bytes each time.
    let settings = "
        exact='-threads 1 -fflags +bitexact -flags:v +bitexact -flags:a +bitexact'
        ffmpeg() { command ffmpeg -nostdin -loglevel error \"$@\"; }";
    twins.run_through_an_end(
        5,
        &format!(
            "{settings}
            # Moves what it has written by the length of an index that it then puts before.
            ffmpeg -f lavfi -i testsrc=duration=12:size=640x480:rate=25 -f lavfi -i sine=duration=12 \
                -c:v mpeg4 -b:v 8M -c:a aac $exact -movflags +faststart film.mp4
            ffmpeg -i film.mp4 -c copy $exact film.mkv
            ffmpeg -i film.mkv -c copy -f segment -segment_time 2 -segment_list list.m3u8 $exact part%d.mkv
            ffmpeg -ss 7 -i film.mp4 -frames:v 1 $exact still.png
            ls"
        ),
    );
    twins.remount();
    twins.run(&format!(
        "{settings}
        for file in film.mp4 film.mkv part3.mkv; do ffmpeg -i $file -map 0:v -f md5 -; done
        cat list.m3u8
        ffprobe -v error -show_entries format=duration,size film.mp4"
    ));
    twins.assert_same_trees();
}
