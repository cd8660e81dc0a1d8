//! Parts of shards on local disk. A file belongs to this process alone, so it holds plain values as they stand in
//! memory; what tells them apart stays in memory. Each part has a checksum, which is verified when it is read.

use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::buffer::{Buffer, MutableBuffer};
use arrow::datatypes::{ArrowNativeType, ToByteSlice};
use sheaf_learn::shard::{Column, Shared};
use sheaf_runtime::fault::Fault;
use xxhash_rust::xxh3::Xxh3;

use crate::parts::Values;

/// A file of parts; removed when nobody refers to it.
#[derive(Debug)]
pub struct SpillFile {
    path: PathBuf,
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "spilled shard not removed");
        }
    }
}

/// A part on disk.
#[derive(Debug, Clone)]
pub struct Spilled {
    file: Arc<SpillFile>,
    shape: Shape,
    offset: u64,
    bytes: u64,
    checksum: u64,
}

/// What the bytes of a part are.
#[derive(Debug, Clone)]
enum Shape {
    Frame { rows: usize, bounds: [usize; 4] },
    F32(usize),
    F64(usize),
    Code(usize),
    Sparse { offsets: usize, entries: usize },
    Bytes { codes: usize, lengths: Vec<u32> },
    Numbers(usize),
    Ids(usize),
}

impl Spilled {
    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads the part back, with the bits that it had.
    pub fn read(&self) -> Result<Values, Fault> {
        let path = &self.file.path;
        let read = || {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(self.offset))?;
            let mut reader = Reader { file, hash: Xxh3::new() };
            Ok((reader.values(&self.shape)?, reader.hash.digest()))
        };
        let (values, checksum) =
            read().map_err(|e: std::io::Error| retry(format!("read spilled shard {}: {e}", path.display())))?;
        match checksum == self.checksum {
            true => Ok(values),
            false => Err(retry(format!("spilled shard {} is damaged: its checksum differs", path.display()))),
        }
    }
}

/// Writes parts of a shard into a new file at `path`, in their order. Nothing is left of a file that cannot be written:
/// half of it takes room that is short.
pub fn write(path: &Path, shard: u32, parts: &[Values]) -> Result<Vec<Spilled>, Fault> {
    let bytes: u64 = parts.iter().map(Values::bytes).sum();
    let failed = |e: std::io::Error| {
        let folder = path.parent().unwrap_or(path).display();
        let help = "make room there, or give the worker another --spill folder or more --memory";
        retry(format!("spill {bytes} bytes of shard {shard} to {folder}: {e}; {help}"))
    };
    let file = File::create_new(path).map_err(failed)?;
    // From here on the file goes with its last owner.
    let owner = Arc::new(SpillFile { path: path.to_owned() });
    let mut writer = Writer { file: BufWriter::with_capacity(1 << 20, file), hash: Xxh3::new(), bytes: 0 };
    let mut out = Vec::new();
    let mut offset = 0;
    for values in parts {
        let shape = writer.values(values).map_err(failed)?;
        let checksum = std::mem::replace(&mut writer.hash, Xxh3::new()).digest();
        let bytes = std::mem::take(&mut writer.bytes);
        out.push(Spilled { file: Arc::clone(&owner), shape, offset, bytes, checksum });
        offset += bytes;
    }
    writer.file.flush().map_err(failed)?;
    Ok(out)
}

struct Writer {
    file: BufWriter<File>,
    hash: Xxh3,
    bytes: u64,
}

impl Writer {
    fn values(&mut self, values: &Values) -> std::io::Result<Shape> {
        Ok(match values {
            Values::Frame { rows, bounds } => Shape::Frame { rows: *rows, bounds: *bounds },
            Values::Column(Column::F32(v)) => Shape::F32(self.plain(v)?),
            Values::Column(Column::F64(v)) => Shape::F64(self.plain(v)?),
            Values::Column(Column::Code(v)) => Shape::Code(self.plain(v)?),
            Values::Column(Column::Sparse { offsets, entries }) => {
                let slots: Vec<u32> = entries.iter().map(|(slot, _)| *slot).collect();
                let numbers: Vec<f32> = entries.iter().map(|(_, number)| *number).collect();
                let offsets = self.plain(offsets)?;
                self.plain(&slots)?;
                Shape::Sparse { offsets, entries: self.plain(&numbers)? }
            }
            Values::Column(Column::Bytes { codes, values }) => {
                let codes = self.plain(codes)?;
                values.iter().try_for_each(|value| self.put(value))?;
                Shape::Bytes { codes, lengths: values.iter().map(|value| value.len() as u32).collect() }
            }
            Values::Numbers(v) => Shape::Numbers(self.plain(v)?),
            Values::Ids(v) => {
                let ids: Vec<i128> = v.iter().map(|id| *id as i128).collect();
                Shape::Ids(self.plain(&ids)?)
            }
        })
    }

    fn plain<T: ArrowNativeType>(&mut self, values: &[T]) -> std::io::Result<usize> {
        self.put(values.to_byte_slice())?;
        Ok(values.len())
    }

    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}

struct Reader {
    file: File,
    hash: Xxh3,
}

impl Reader {
    fn values(&mut self, shape: &Shape) -> std::io::Result<Values> {
        Ok(match shape {
            Shape::Frame { rows, bounds } => Values::Frame { rows: *rows, bounds: *bounds },
            Shape::F32(n) => Values::Column(Column::F32(self.plain(*n)?.into())),
            Shape::F64(n) => Values::Column(Column::F64(self.plain(*n)?.into())),
            Shape::Code(n) => Values::Column(Column::Code(self.plain(*n)?.into())),
            Shape::Sparse { offsets, entries } => {
                let offsets: Shared<u32> = self.plain(*offsets)?.into();
                let (slots, numbers) = (self.plain::<u32>(*entries)?, self.plain::<f32>(*entries)?);
                Values::Column(Column::Sparse { offsets, entries: slots.into_iter().zip(numbers).collect() })
            }
            Shape::Bytes { codes, lengths } => {
                let codes = self.plain(*codes)?.into();
                let value = |length: &u32| Ok(self.plain::<u8>(*length as usize)?.into_boxed_slice());
                let values = lengths.iter().map(value).collect::<std::io::Result<Vec<_>>>()?;
                Values::Column(Column::Bytes { codes, values: values.into() })
            }
            Shape::Numbers(n) => Values::Numbers(self.plain(*n)?.into()),
            Shape::Ids(n) => Values::Ids(self.plain::<i128>(*n)?.into_iter().map(|id| id as u128).collect()),
        })
    }

    /// Reads into the memory that the values stay in.
    fn plain<T: ArrowNativeType>(&mut self, count: usize) -> std::io::Result<Vec<T>> {
        let mut buffer = MutableBuffer::from(vec![T::default(); count]);
        self.file.read_exact(buffer.as_slice_mut())?;
        self.hash.update(buffer.as_slice());
        Ok(Buffer::from(buffer).into_vec().expect("made from a vector of this type"))
    }
}

fn retry(message: String) -> Fault {
    Fault { retry: true, ..Fault::internal(message) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn every_kind() -> Vec<Values> {
        vec![
            Values::Frame { rows: 3, bounds: [0, 1, 1, 3] },
            Values::Column(Column::F32(vec![1.5, f32::NAN, -0.0].into())),
            Values::Column(Column::F64(vec![f64::NAN, 0.1, f64::NEG_INFINITY].into())),
            Values::Column(Column::Code(vec![0, u32::MAX, 7].into())),
            Values::Column(Column::Sparse {
                offsets: vec![0, 1, 1, 3].into(),
                entries: vec![(2, 1.0), (0, -2.5), (1, 4.0)].into(),
            }),
            Values::Column(Column::bytes_of([Some(Box::from(&b"grocery"[..])), None, Some(Box::default())])),
            Values::Numbers(vec![0.0, 1.0, 1.0].into()),
            Values::Ids(vec![0, u128::MAX, 1 << 100].into()),
            Values::Column(Column::F32(Vec::new().into())),
        ]
    }

    #[test]
    fn parts_come_back_and_the_file_goes_with_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.parts");
        let parts = every_kind();
        let spilled = write(&path, 0, &parts).unwrap();
        for (part, spilled) in parts.iter().zip(&spilled).rev() {
            // NaN differs from itself: what is compared is the text, which tells bits of values apart well enough.
            assert_eq!(format!("{:?}", spilled.read().unwrap()), format!("{part:?}"));
        }
        let last = spilled[1].clone();
        drop(spilled);
        assert!(last.read().is_ok());
        drop(last);
        assert!(!path.exists());
    }

    #[test]
    fn damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.parts");
        let spilled = write(&path, 0, &every_kind()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[2] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(spilled[1].read().unwrap_err().message.contains("checksum"));
        assert!(spilled[2].read().is_ok());
        std::fs::write(&path, &bytes[..10]).unwrap();
        assert!(spilled[2].read().unwrap_err().retry);
    }
}
