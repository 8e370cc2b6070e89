//! The assignment of least cost: every row (or column, if those are fewer) gets a partner of its own.
//!
//! ```text
//! minimise  sum_i cost(i, p(i))   over injections p of the shorter side into the longer
//! ```
//!
//! By shortest augmenting paths (Crouse 2016, "On implementing 2D rectangular assignment algorithms", after Jonker and
//! Volgenant 1987), in O(short² long). Costs are f32, sums f64. Of several minima always the same one is found.

use thiserror::Error;

/// Costs that have no assignment.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AssignmentError {
    /// A cost is not a number.
    #[error("the cost of row {row} and column {column} is not a number")]
    NotANumber {
        /// Its row.
        row: usize,
        /// Its column.
        column: usize,
    },
    /// So many costs are infinite that some row or column has no partner left.
    #[error("no assignment has a finite cost")]
    Infeasible,
    /// The list is not as long as the matrix has entries.
    #[error("{found} costs for {rows} rows of {columns}")]
    Length {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        columns: usize,
        /// Entries given.
        found: usize,
    },
}

/// Pairs (row, column) of least total cost, by row; `costs` holds `rows` rows of `columns`. There are as many pairs as the
/// shorter side has entries. Infinity forbids a pair.
///
/// ```
/// use kiln_detection::matching::assign;
///
/// let costs = [4.0, 1.0, 4.0, 2.0, 0.0, 5.0];
/// assert_eq!(assign(&costs, 2, 3)?, [(0, 1), (1, 0)]);
/// # Ok::<(), kiln_detection::matching::AssignmentError>(())
/// ```
///
/// # Errors
///
/// [`AssignmentError`], if a cost is no number or minus infinity, or no finite assignment exists.
pub fn assign(costs: &[f32], rows: usize, columns: usize) -> Result<Vec<(usize, usize)>, AssignmentError> {
    if costs.len() != rows * columns {
        return Err(AssignmentError::Length { rows, columns, found: costs.len() });
    }
    if let Some(index) = costs.iter().position(|cost| cost.is_nan() || *cost == f32::NEG_INFINITY) {
        return Err(AssignmentError::NotANumber { row: index / columns, column: index % columns });
    }
    if rows <= columns {
        let partners = shortest_paths(rows, columns, |i, j| f64::from(costs[i * columns + j]))?;
        return Ok(partners.into_iter().enumerate().collect());
    }
    let partners = shortest_paths(columns, rows, |i, j| f64::from(costs[j * columns + i]))?;
    let mut pairs: Vec<_> = partners.into_iter().enumerate().map(|(column, row)| (row, column)).collect();
    pairs.sort_unstable();
    Ok(pairs)
}

/// The partner of each of `short`, where `short <= long`.
fn shortest_paths(
    short: usize,
    long: usize,
    cost: impl Fn(usize, usize) -> f64,
) -> Result<Vec<usize>, AssignmentError> {
    const NONE: usize = usize::MAX;
    // The dual variables: at every time, cost(i, j) - u[i] - v[j] >= 0, and 0 for pairs.
    let (mut u, mut v) = (vec![0.0; short], vec![0.0; long]);
    let (mut of_row, mut of_column) = (vec![NONE; short], vec![NONE; long]);
    for start in 0..short {
        let mut distance = vec![f64::INFINITY; long];
        let mut before = vec![NONE; long];
        let (mut row_seen, mut column_seen) = (vec![false; short], vec![false; long]);
        let mut remaining: Vec<usize> = (0..long).collect();
        let (mut row, mut reached) = (start, 0.0);
        // Grow a tree of alternating paths from `start` until it reaches a free column.
        let end = loop {
            row_seen[row] = true;
            let (mut nearest, mut least) = (NONE, f64::INFINITY);
            for (place, &column) in remaining.iter().enumerate() {
                let through = reached + cost(row, column) - u[row] - v[column];
                if through < distance[column] {
                    distance[column] = through;
                    before[column] = row;
                }
                // Among equals a free column, which ends the search.
                let free = of_column[column] == NONE;
                if distance[column] < least || (distance[column] == least && free) {
                    (nearest, least) = (place, distance[column]);
                }
            }
            if least == f64::INFINITY {
                return Err(AssignmentError::Infeasible);
            }
            reached = least;
            let column = remaining.swap_remove(nearest);
            column_seen[column] = true;
            match of_column[column] {
                NONE => break column,
                next => row = next,
            }
        };
        u[start] += reached;
        for i in (0..short).filter(|&i| i != start && row_seen[i]) {
            u[i] += reached - distance[of_row[i]];
        }
        for j in (0..long).filter(|&j| column_seen[j]) {
            v[j] -= reached - distance[j];
        }
        // Exchange pairs along the path.
        let mut column = end;
        loop {
            let row = before[column];
            of_column[column] = row;
            column = std::mem::replace(&mut of_row[row], column);
            if row == start {
                break;
            }
        }
    }
    Ok(of_row)
}
