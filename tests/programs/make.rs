//! make and a compiler.

use crate::scene::parts;
use crate::twins::Twins;

#[test]
fn a_program_is_built_and_runs_and_is_up_to_date_then() {
    let test = "a_program_is_built_and_runs_and_is_up_to_date_then";
    if !parts::are_here(test, &["make", "cc"], "apt-get install build-essential") {
        return;
    }
    let mut twins = Twins::new();
    twins.run(
        r#"mkdir include
           echo 'extern const char *words;' >include/words.h
           echo '#include "words.h"' >words.c
           echo 'const char *words = "built on a bucket";' >>words.c
           printf '#include <stdio.h>\n#include "words.h"\nint main(void) { puts(words); return 0; }\n' >main.c
           printf 'CFLAGS = -Iinclude\nall: program\nprogram: main.o lib.a\n\t$(CC) -o $@ $^\n' >Makefile
           printf 'lib.a: words.o\n\t$(AR) rcs $@ $^\n*.o: include/words.h\n' >>Makefile
           make
           ./program
           make | tail -n 1
           make --question --what-if=words.c || echo 'to be built'
           make --jobs=2 >/dev/null; ./program; ls"#,
    );
    twins.remount();
    twins.run("make --question; ./program; make --silent clean 2>/dev/null || rm *.o; ls");
}
