//! Rows between one another, as enlarging by a whole factor makes them; for the usual factors in loops that vectorise.

/// `out[n i + k] = rows(k)[i]`, n = `count`. Each row is as long as `out` needs it.
#[inline(always)]
pub(super) fn interleave<'a>(count: usize, rows: impl Fn(usize) -> &'a [f32], out: &mut [f32]) {
    match count {
        1 => out.copy_from_slice(&rows(0)[..out.len()]),
        2 => known([rows(0), rows(1)], out),
        3 => known([rows(0), rows(1), rows(2)], out),
        4 => known([rows(0), rows(1), rows(2), rows(3)], out),
        _ => {
            for k in 0..count.min(out.len()) {
                out[k..].iter_mut().step_by(count).zip(rows(k)).for_each(|(o, &v)| *o = v);
            }
        }
    }
}

#[inline(always)]
fn known<const N: usize>(rows: [&[f32]; N], out: &mut [f32]) {
    let whole = out.len() / N;
    let (blocks, rest) = out.as_chunks_mut::<N>();
    let cut = rows.map(|row| &row[..whole]);
    for (i, block) in blocks.iter_mut().enumerate() {
        for k in 0..N {
            block[k] = cut[k][i];
        }
    }
    for (o, row) in rest.iter_mut().zip(rows) {
        *o = row[whole];
    }
}

/// `out[i] = row[n i + k]`, n = `count`.
#[inline(always)]
pub(super) fn every(count: usize, k: usize, row: &[f32], out: &mut [f32]) {
    match count {
        1 => out.copy_from_slice(row),
        2 => every_known::<2>(k, row, out),
        3 => every_known::<3>(k, row, out),
        4 => every_known::<4>(k, row, out),
        _ => out.iter_mut().zip(row[k..].iter().step_by(count)).for_each(|(o, &v)| *o = v),
    }
}

#[inline(always)]
fn every_known<const N: usize>(k: usize, row: &[f32], out: &mut [f32]) {
    let (blocks, _) = row.as_chunks::<N>();
    let k = k.min(N - 1);
    for (o, block) in out.iter_mut().zip(blocks) {
        *o = block[k];
    }
}
