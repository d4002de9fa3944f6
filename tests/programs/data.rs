//! Files of scientists: HDF5, Parquet, DuckDB.

use std::path::Path;
use std::process::Command;

use crate::scene::parts;
use crate::twins::Twins;

const INSTALL: &str = "python3 -m venv target/tools/venv && target/tools/venv/bin/pip install \
                       numpy==2.4.6 h5py==3.16.0 pyarrow==26.0.1 duckdb==2.0.1";

/// A script of Python in both directories, in which the session ends; unless the module is missing.
fn python(test: &str, module: &str, request: u64, program: &str, again: &str) -> Option<Twins> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/venv/bin/python");
    let mut find = Command::new(&python);
    find.args(["-c", &format!("import {module}")]);
    if !find.output().is_ok_and(|output| output.status.success()) {
        parts::skip(test, &format!("{module} not found; {INSTALL}"));
        return None;
    }
    let mut twins = Twins::new();
    let run = |program: &str| {
        std::fs::write(twins.source().join("program.py"), program).unwrap();
        format!("{} ../source/program.py", python.display())
    };
    twins.run_through_an_end(request, &run(program));
    let again = run(again);
    twins.remount();
    twins.run(&again);
    Some(twins)
}

#[test]
fn h5py_makes_changes_and_reads_a_file() {
    let twins = python(
        "h5py_makes_changes_and_reads_a_file",
        "h5py",
        5,
        "
import h5py, numpy
numbers = numpy.random.default_rng(7).integers(0, 1000, (400, 1000))
with h5py.File('data.h5', 'w') as file:
    chunks = dict(chunks=(50, 100), maxshape=(None, 1000))
    file.create_dataset('table', data=numbers, compression='gzip', **chunks)
    file.create_dataset('plain', data=numbers, **chunks)
    file.create_group('more').attrs['unit'] = 'metre'
    file['more/line'] = numpy.arange(100_000.0)
with h5py.File('data.h5', 'r+') as file:
    for name in ['table', 'plain']:
        file[name].resize(500, axis=0)
        file[name][400:] = 7
        file[name][10:20, 5] = -1
        file.flush()
    del file['more/line']
    file['more/other'] = 'text'
",
        "
import h5py
with h5py.File('data.h5', 'a') as file:
    print(file['table'][:].sum(), (file['table'][:] == file['plain'][:]).all(), list(file['more']))
    file['table'][0] = 0
with h5py.File('data.h5') as file:
    print(file['table'][:].sum(), file['more'].attrs['unit'])
",
    );
    if let Some(twins) = twins {
        twins.assert_same_trees();
    }
}

#[test]
fn pyarrow_writes_and_reads_parquet() {
    let twins = python(
        "pyarrow_writes_and_reads_parquet",
        "pyarrow",
        10,
        "
import pyarrow, pyarrow.dataset, pyarrow.parquet
n = 200_000
table = pyarrow.table({
    'n': range(n), 'name': [f'name {i % 1000}' for i in range(n)],
    'half': [i / 2 for i in range(n)], 'part': [i % 4 for i in range(n)],
})
pyarrow.parquet.write_table(table, 'table.parquet', row_group_size=20_000)
# With more threads the order of the rows is another each time.
pyarrow.dataset.write_dataset(table, 'parts', format='parquet', partitioning=['part'], use_threads=False)
assert pyarrow.parquet.read_table('table.parquet').equals(table)
with pyarrow.OSFile('table.arrow', 'wb') as file:
    with pyarrow.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
",
        "
import pyarrow, pyarrow.dataset, pyarrow.parquet
for mapped in (False, True):
    some = pyarrow.parquet.read_table('table.parquet', columns=['n'],
                                      filters=[('n', '>', 199_993)], memory_map=mapped)
    print(some['n'].to_pylist())
file = pyarrow.parquet.ParquetFile('table.parquet')
print(file.num_row_groups, file.read_row_group(5)['half'][0])
parts = pyarrow.dataset.dataset('parts', partitioning=['part'])
print(parts.count_rows(), parts.filter(pyarrow.compute.field('part') == 3).count_rows())
with pyarrow.memory_map('table.arrow') as file:
    print(pyarrow.ipc.open_file(file).read_all()['name'][-1])
",
    );
    if let Some(twins) = twins {
        twins.assert_same_trees();
    }
}

#[test]
fn duckdb_keeps_a_database() {
    python(
        "duckdb_keeps_a_database",
        "duckdb",
        10,
        r#"
import duckdb
with duckdb.connect("base.duckdb") as base:
    base.execute("CREATE TABLE t AS SELECT range AS n, hash(range)::VARCHAR AS h FROM range(300000)")
    base.execute("UPDATE t SET h = 0 WHERE n % 7 = 0")
    base.execute("CHECKPOINT")
    base.execute("DELETE FROM t WHERE n % 5 = 0")
    base.execute("COPY t TO 't.csv'")
    base.execute("COPY t TO 't.parquet' (ROW_GROUP_SIZE 20000)")
    print(base.execute("SELECT count(*), sum(n) FROM t").fetchall())
"#,
        r#"
import duckdb
with duckdb.connect("base.duckdb") as base:
    # Too little for the sort, which then goes to files on the mount.
    base.execute("SET memory_limit = '40MB'; SET temp_directory = 'spill'; SET threads = 1")
    for source in ["t", "'t.csv'", "'t.parquet'"]:
        print(base.execute(f"SELECT count(*), sum(n) FROM {source}").fetchall())
    print(base.execute("SELECT h FROM (SELECT h, n FROM t ORDER BY h DESC) LIMIT 1 OFFSET 239999").fetchall())
    base.execute("INSERT INTO t SELECT n, 'again' FROM t WHERE n < 1000")
with duckdb.connect("base.duckdb", read_only=True) as base:
    print(base.execute("SELECT count(*) FROM t").fetchall())
"#,
    );
}
