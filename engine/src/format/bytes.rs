//! Little-endian fields at fixed offsets.
//!
//! `get_*` panic where the field lies outside the slice: callers have checked the structure's fixed
//! length before. Lengths that come from the bytes themselves go through slices' checked `get`.

macro_rules! field {
    ($get:ident, $put:ident, $type:ty, $bytes:literal) => {
        #[inline]
        pub(crate) fn $get(bytes: &[u8], offset: usize) -> $type {
            let mut field = [0; $bytes];
            field.copy_from_slice(&bytes[offset..offset + $bytes]);
            <$type>::from_le_bytes(field)
        }

        #[inline]
        pub(crate) fn $put(bytes: &mut [u8], offset: usize, value: $type) {
            bytes[offset..offset + $bytes].copy_from_slice(&value.to_le_bytes());
        }
    };
}

field!(get_u16, put_u16, u16, 2);
field!(get_u32, put_u32, u32, 4);
field!(get_u64, put_u64, u64, 8);
field!(get_i64, put_i64, i64, 8);

#[inline]
pub(crate) fn get_u128(bytes: &[u8], offset: usize) -> u128 {
    u128::from_le_bytes(get_array(bytes, offset))
}

#[inline]
pub(crate) fn get_array<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[offset..offset + N]);
    field
}

/// Whether every byte is zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    /// Bytes that are looked at together: a multiple of what a processor's widest registers hold.
    const LANES: usize = 64;
    // Without a branch for a while: this runs over all of a segment's unused end when it is recovered.
    let any = |group: &[u8]| {
        let mut lanes = [0; LANES];
        for row in group.chunks_exact(LANES) {
            for (lane, byte) in lanes.iter_mut().zip(row) {
                *lane |= byte;
            }
        }
        lanes.iter().fold(0, |any, lane| any | lane)
    };
    let mut groups = bytes.chunks_exact(8 * LANES);
    groups.by_ref().all(|group| any(group) == 0)
        && groups.remainder().iter().fold(0, |any, byte| any | byte) == 0
}
