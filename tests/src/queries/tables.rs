//! The eight TPC-H tables as Parquet: a folder per table, several files of several row groups for the big ones.
//! Files carry no Arrow schema of their own: what reads them sees what any other program's files would show it.

use std::fs::File;
use std::path::Path;

use arrow::array::RecordBatchReader;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator, RegionGenerator,
    SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow, SupplierArrow,
};

/// Tables and the number of files that each is written as.
pub const TABLES: &[(&str, i32)] = &[
    ("region", 1),
    ("nation", 1),
    ("supplier", 1),
    ("customer", 2),
    ("part", 2),
    ("partsupp", 3),
    ("orders", 4),
    ("lineitem", 4),
];

/// Rows of `lineitem` at scale factor 1, about.
const LINES: f64 = 6_000_000.0;

/// Writes all tables of a scale factor below a folder, `FOLDER/TABLE/part-N.parquet`.
pub fn write(folder: &Path, scale: f64) {
    let group_rows = (LINES * scale / 12.0).clamp(1_000.0, 131_072.0) as usize;
    for (table, files) in TABLES {
        let folder = folder.join(table);
        std::fs::create_dir_all(&folder).unwrap();
        for part in 1..=*files {
            let rows = rows(table, scale, part, *files);
            write_file(&folder.join(format!("part-{part}.parquet")), rows, group_rows);
        }
    }
}

/// The rows of one part of a table.
fn rows(table: &str, scale: f64, part: i32, parts: i32) -> Box<dyn RecordBatchReader> {
    match table {
        "region" => Box::new(RegionArrow::new(RegionGenerator::new(scale, part, parts))),
        "nation" => Box::new(NationArrow::new(NationGenerator::new(scale, part, parts))),
        "supplier" => Box::new(SupplierArrow::new(SupplierGenerator::new(scale, part, parts))),
        "customer" => Box::new(CustomerArrow::new(CustomerGenerator::new(scale, part, parts))),
        "part" => Box::new(PartArrow::new(PartGenerator::new(scale, part, parts))),
        "partsupp" => Box::new(PartSuppArrow::new(PartSuppGenerator::new(scale, part, parts))),
        "orders" => Box::new(OrderArrow::new(OrderGenerator::new(scale, part, parts))),
        "lineitem" => Box::new(LineItemArrow::new(LineItemGenerator::new(scale, part, parts))),
        other => panic!("TPC-H has no table {other}"),
    }
}

/// Writes one file, its row groups of so many rows.
pub fn write_file(path: &Path, rows: Box<dyn RecordBatchReader>, group_rows: usize) {
    let properties =
        WriterProperties::builder().set_compression(Compression::SNAPPY).set_max_row_group_row_count(Some(group_rows)).build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(File::create(path).unwrap(), rows.schema(), options).unwrap();
    for batch in rows {
        writer.write(&batch.unwrap()).unwrap();
    }
    writer.close().unwrap();
}
