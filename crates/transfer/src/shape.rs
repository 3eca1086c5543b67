//! The shape of an answer with verified bytes: how long it is, and where in it a byte of the file stands.
//!
//! An answer is the blob's size (8 bytes, little endian), then in pre-order every parent above a wanted group
//! (64 bytes) and every wanted group.
//!
//! **Invariant:** pure; walks one path of the tree, whatever the size.

use std::ops::Range;

use hubless_types::{ByteRange, GROUP_BYTES};

const HEADER_BYTES: u64 = 8;
const PARENT_BYTES: u64 = 64;

/// Bytes of the answer that carries `groups` of a blob of `size` bytes.
pub(crate) fn answer_len(size: u64, groups: &Range<u64>) -> u64 {
    let parents = parents_above(0..size.div_ceil(GROUP_BYTES), groups);
    HEADER_BYTES + parents * PARENT_BYTES + ByteRange::of_groups(groups.clone(), size).len()
}

/// Where the file's byte at `offset` stands in that answer; `None` if it is not in it.
pub(crate) fn place_of(size: u64, groups: &Range<u64>, offset: u64) -> Option<u64> {
    let group = offset / GROUP_BYTES;
    if !groups.contains(&group) || offset >= size {
        return None;
    }
    // All parents that are visited before the group: those above it, and those wholly to its left.
    let before = parents_before(0..size.div_ceil(GROUP_BYTES), groups, group);
    Some(HEADER_BYTES + before * PARENT_BYTES + (offset - groups.start * GROUP_BYTES))
}

/// Splits a parent's groups: the left child has the largest power of two that leaves something for the right.
fn children(node: &Range<u64>) -> (Range<u64>, Range<u64>) {
    let left = 1_u64 << (63 - (node.end - node.start - 1).leading_zeros());
    (node.start..node.start + left, node.start + left..node.end)
}

/// Parents within `node` that stand above any of `groups`.
fn parents_above(node: Range<u64>, groups: &Range<u64>) -> u64 {
    if node.end - node.start <= 1 || node.end <= groups.start || groups.end <= node.start {
        return 0;
    }
    if groups.start <= node.start && node.end <= groups.end {
        return node.end - node.start - 1;
    }
    let (left, right) = children(&node);
    1 + parents_above(left, groups) + parents_above(right, groups)
}

fn parents_before(node: Range<u64>, groups: &Range<u64>, group: u64) -> u64 {
    if node.end - node.start <= 1 {
        return 0;
    }
    let (left, right) = children(&node);
    if group < left.end {
        return 1 + parents_before(left, groups, group);
    }
    1 + parents_above(left, groups) + parents_before(right, groups, group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The answer written out naively: the file's byte at each place, or `None` for header and parents.
    fn written_out(size: u64, node: Range<u64>, groups: &Range<u64>, out: &mut Vec<Option<u64>>) {
        if node.end <= groups.start || groups.end <= node.start {
            return;
        }
        if node.end - node.start == 1 {
            let range = ByteRange::of_groups(node, size);
            out.extend((range.start..range.end).map(Some));
            return;
        }
        out.extend([None; PARENT_BYTES as usize]);
        let (left, right) = children(&node);
        written_out(size, left, groups, out);
        written_out(size, right, groups, out);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn lengths_and_places_are_those_of_the_tree(count in 1..40_u64, cut in 0..GROUP_BYTES, a in 0..40_u64, b in 1..40_u64) {
            let size = count * GROUP_BYTES - cut;
            let start = a % count;
            let groups = start..(start + b).min(count);
            let mut out = vec![None; HEADER_BYTES as usize];
            written_out(size, 0..count, &groups, &mut out);
            prop_assert_eq!(answer_len(size, &groups), out.len() as u64);
            let range = ByteRange::of_groups(groups.clone(), size);
            for offset in [range.start, (range.start + range.end) / 2, range.end - 1] {
                let place = out.iter().position(|b| *b == Some(offset)).unwrap();
                prop_assert_eq!(place_of(size, &groups, offset), Some(place as u64));
            }
            prop_assert_eq!(place_of(size, &groups, range.end), None);
        }
    }

    #[test]
    fn an_empty_file_is_its_header() {
        assert_eq!(answer_len(0, &(0..0)), 8);
    }
}
