//! The bytes of an object: pieces that are shared, never copied.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

/// Immutable bytes in one or more pieces. An object that was put in one request has one piece, one of
/// a multipart upload a piece for each part, and a copy shares the pieces of its source. So completing
/// an upload of any size copies nothing, and a range is found by bisection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pieces: Arc<[Piece]>,
    length: u64,
}

#[derive(Clone, Debug)]
struct Piece {
    /// The offset of its first byte.
    start: u64,
    bytes: Bytes,
}

impl Content {
    /// The pieces in their order; empty ones are left out.
    pub(crate) fn of_pieces(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let mut length = 0;
        let pieces = pieces
            .into_iter()
            .filter(|bytes| !bytes.is_empty())
            .map(|bytes| {
                let start = length;
                length += bytes.len() as u64;
                Piece { start, bytes }
            })
            .collect();
        Self { pieces, length }
    }

    pub(crate) fn join<'a>(contents: impl IntoIterator<Item = &'a Self>) -> Self {
        let pieces = contents.into_iter().flat_map(Self::pieces).cloned();
        Self::of_pieces(pieces)
    }

    pub(crate) fn len(&self) -> u64 {
        self.length
    }

    pub(crate) fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        self.pieces.iter().map(|piece| &piece.bytes)
    }

    /// The bytes of a range, which is cut to the length.
    pub(crate) fn slice(&self, range: Range<u64>) -> VecDeque<Bytes> {
        let end = range.end.min(self.length);
        let first = self
            .pieces
            .partition_point(|piece| piece.start + piece.bytes.len() as u64 <= range.start);
        self.pieces[first..]
            .iter()
            .take_while(|piece| piece.start < end)
            .map(|piece| {
                // Both are offsets in a piece that is in memory, so they fit.
                let from = range.start.saturating_sub(piece.start) as usize;
                let to = (end - piece.start).min(piece.bytes.len() as u64) as usize;
                piece.bytes.slice(from.min(to)..to)
            })
            .collect()
    }

    /// All bytes in one piece, which costs a copy if there are more.
    pub(crate) fn to_bytes(&self) -> Bytes {
        match &*self.pieces {
            [] => Bytes::new(),
            [only] => only.bytes.clone(),
            pieces => {
                let mut all = Vec::with_capacity(usize::try_from(self.length).unwrap_or_default());
                for piece in pieces {
                    all.extend_from_slice(&piece.bytes);
                }
                Bytes::from(all)
            }
        }
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self::of_pieces([bytes])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pieces: VecDeque<Bytes>) -> String {
        pieces
            .iter()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .collect::<Vec<_>>()
            .join("|")
    }

    #[test]
    fn a_range_is_cut_out_of_the_pieces_it_touches() {
        let content = Content::of_pieces(["abc", "", "def", "g"].map(Bytes::from));
        assert_eq!(content.len(), 7);
        assert_eq!(text(content.slice(0..7)), "abc|def|g");
        assert_eq!(text(content.slice(2..4)), "c|d");
        assert_eq!(text(content.slice(3..6)), "def");
        assert_eq!(text(content.slice(4..5)), "e");
        assert_eq!(text(content.slice(6..99)), "g");
        assert_eq!(text(content.slice(7..9)), "");
        assert_eq!(text(content.slice(3..3)), "");
        assert_eq!(content.to_bytes(), "abcdefg");
        assert_eq!(text(Content::default().slice(0..1)), "");
    }

    #[test]
    fn joining_copies_nothing() {
        let (one, two) = (Bytes::from(vec![1; 10]), Bytes::from(vec![2; 10]));
        let joined = Content::join([&Content::from(one.clone()), &Content::from(two)]);
        assert_eq!(
            joined.pieces().next().map(|bytes| bytes.as_ptr()),
            Some(one.as_ptr())
        );
    }
}
