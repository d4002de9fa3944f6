//! Node.js and npm.

use crate::scene::parts;
use crate::twins::Twins;

const INSTALL: &str = "apt-get install nodejs npm";

/// What a program does that makes, changes and reads files.
const WORK: &str = r#"
import fs from "node:fs/promises";
import { createReadStream, createWriteStream } from "node:fs";
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import zlib from "node:zlib";

await fs.mkdir("a/b/c", { recursive: true });
const numbers = [...Array(30).keys()];
await Promise.all(numbers.map((n) => fs.writeFile(`a/b/${n}.json`, JSON.stringify({ n }))));
const lines = function* () {
    for (let n = 0; n < 300000; n++) yield `line ${n} of a longer text\n`;
};
await pipeline(Readable.from(lines()), createWriteStream("text"));
await pipeline(createReadStream("text"), zlib.createGzip(), createWriteStream("text.gz"));
const hash = createHash("sha256");
await pipeline(createReadStream("text.gz"), zlib.createGunzip(), hash);
console.log(hash.digest("hex"));
await fs.appendFile("text", "the end\n");
const file = await fs.open("text", "r+");
await file.write("LINE", 0);
await file.sync();
console.log((await file.read({ buffer: Buffer.alloc(10), position: 0 })).buffer.toString());
await file.close();
await fs.truncate("text", 1000000);
await fs.cp("a", "copy", { recursive: true });
await fs.rename("copy/b", "copy/d");
await fs.symlink("text", "link");
await fs.copyFile("text", "second");
await fs.chmod("second", 0o600);
console.log((await fs.readdir(".", { recursive: true })).length, (await fs.stat("link")).size);
await fs.rm("a", { recursive: true });
"#;

#[test]
fn a_program_of_node_works_with_files() {
    let test = "a_program_of_node_works_with_files";
    if !parts::are_here(test, &["node"], INSTALL) {
        return;
    }
    let mut twins = Twins::new();
    std::fs::write(twins.source().join("work.mjs"), WORK).unwrap();
    twins.run_through_an_end(20, "node ../source/work.mjs; ls");
    twins.assert_same_trees();
    twins.remount();
    twins.assert_same_trees();
}

#[test]
fn npm_installs_and_removes() {
    let test = "npm_installs_and_removes";
    if !parts::are_here(test, &["node", "npm"], INSTALL) {
        return;
    }
    let twins = Twins::new();
    // Two packages, of which the second needs the first and has a program.
    let packages = twins.source();
    for (path, text) in [
        (
            "one/package.json",
            r#"{"name": "one", "version": "1.0.0", "main": "lib/7.js"}"#,
        ),
        (
            "two/package.json",
            r#"{"name": "two", "version": "2.0.0", "bin": {"two": "two.js"},
                "dependencies": {"one": "1.0.0"}, "scripts": {"postinstall": "echo done >built"}}"#,
        ),
        (
            "two/two.js",
            "#!/usr/bin/env node\nconsole.log(require('one'))\n",
        ),
    ] {
        std::fs::create_dir_all(packages.join(path).parent().unwrap()).unwrap();
        std::fs::write(packages.join(path), text).unwrap();
    }
    std::fs::create_dir(packages.join("one/lib")).unwrap();
    for n in 0..120 {
        let path = packages.join(format!("one/lib/{n}.js"));
        std::fs::write(path, format!("module.exports = {n}\n")).unwrap();
    }
    // Without the registry.
    let settings = "
        npm() {
            command npm \"$@\" --offline --no-audit --no-fund --no-progress --loglevel=error \
                --no-update-notifier --cache ../../source/cache | sed 's/ in [0-9a-z]*$//'
        }";
    twins.run_through_an_end(
        60,
        &format!(
            "{settings}
            mkdir project; cd project; echo '{{\"name\": \"project\", \"private\": true}}' >package.json
            (cd ../../source; command npm pack --silent --cache cache ./one ./two)
            npm install ../../source/one-1.0.0.tgz ../../source/two-2.0.0.tgz
            node_modules/.bin/two; cat node_modules/two/built; npm ls --all"
        ),
    );
    twins.assert_same_trees();
    twins.run(&format!(
        "{settings}
        cd project; npm ci; node_modules/.bin/two; npm uninstall two one; ls -A; cat package.json"
    ));
    twins.assert_same_trees();
}
