//! Eigenvalues after a row was left out, from those before: D − ρ y yᵀ with D diagonal (Golub, SIAM Review 15, 1973). Each
//! lies between two old ones, where a function without poles has its one root. No I/O.

/// Steps to a root: bisection alone would need fewer.
const STEPS: usize = 120;

/// The eigenvalues of diag(`squares`) − `rho` · y yᵀ, descending, for descending `squares` that are not negative and a
/// result that is positive semidefinite but for rounding, which is taken off. Within some ε of the largest of `squares`.
pub(super) fn downdated(squares: &[f64], y: &[f64], rho: f64) -> Vec<f64> {
    let largest = squares.first().copied().unwrap_or(0.0);
    if largest == 0.0 {
        return vec![0.0; squares.len()];
    }
    let scaled: Vec<f64> = squares.iter().map(|x| x / largest).collect();
    let weights: Vec<f64> = y.iter().map(|y| y * (rho / largest).sqrt()).collect();
    let (mut d, mut z, mut values) = (Vec::new(), Vec::<f64>::new(), Vec::with_capacity(squares.len()));
    // Directions that the row does not touch, or that could be turned so that it does not, keep their eigenvalue.
    let negligible = 8.0 * f64::EPSILON;
    for (&square, &weight) in scaled.iter().zip(&weights) {
        match (d.last(), z.last_mut()) {
            _ if weight * weight <= negligible * negligible => values.push(square),
            (Some(last), Some(weight_there)) if last - square <= negligible => {
                *weight_there = weight_there.hypot(weight);
                values.push(square);
            }
            _ => {
                d.push(square);
                z.push(weight);
            }
        }
    }
    let touched: f64 = z.iter().map(|z| z * z).sum();
    for k in 0..d.len() {
        let high = d[k];
        let next = d.get(k + 1).copied();
        // The last one is not below the smallest by more than the row takes away in all.
        let low = next.unwrap_or(high - touched);
        let rest = |x: f64| -> f64 {
            let terms = d.iter().zip(&z).enumerate().filter(|(j, _)| *j != k && (*j != k + 1 || next.is_none()));
            1.0 - terms.map(|(_, (d, z))| z * z / (d - x)).sum::<f64>()
        };
        let own = z[k] * z[k];
        let root = match next {
            Some(next) => {
                let beside = z[k + 1] * z[k + 1];
                root((low, high), |x| (high - x) * (x - next) * rest(x) - own * (x - next) + beside * (high - x))
            }
            None => root((low, high), |x| (high - x) * rest(x) - own),
        };
        values.push(root);
    }
    values.sort_by(|a, b| b.total_cmp(a));
    values.iter().map(|value| (value * largest).max(0.0)).collect()
}

/// The root between two places, at the lower of which the function is not negative, and at the upper not positive; by
/// inverse quadratic interpolation where that is safe, else by bisection (Chandrupatla, Adv. Eng. Software 28, 1997).
fn root((low, high): (f64, f64), f: impl Fn(f64) -> f64) -> f64 {
    let (mut a, mut b) = (high, low);
    let (mut fa, mut fb) = (f(a), f(b));
    if fb <= 0.0 {
        return low;
    }
    if fa >= 0.0 {
        return high;
    }
    let mut part = 0.5;
    for _ in 0..STEPS {
        let x = a + part * (b - a);
        let fx = f(x);
        // The end that is given up.
        let (c, fc);
        if (fx > 0.0) == (fa > 0.0) {
            (c, fc) = (a, fa);
        } else {
            ((c, fc), (b, fb)) = ((b, fb), (a, fa));
        }
        (a, fa) = (x, fx);
        let best = if fa.abs() < fb.abs() { a } else { b };
        let tolerance = 0.5 * f64::EPSILON / (b - a).abs();
        if tolerance > 0.5 || fa == 0.0 {
            return best;
        }
        let (xi, phi) = ((a - b) / (c - b), (fa - fb) / (fc - fb));
        part = if phi * phi < xi && (1.0 - phi) * (1.0 - phi) < 1.0 - xi {
            fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
        } else {
            0.5
        };
        part = part.clamp(tolerance, 1.0 - tolerance);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::eigen::Eigen;

    /// Numbers in −1..1, always the same.
    fn numbers(count: usize, seed: u64) -> Vec<f64> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// Against the eigenvalues of the matrix itself, and how many there are.
    fn check(squares: &[f64], y: &[f64], rho: f64) {
        let n = squares.len();
        let entry = |(i, j): (usize, usize)| if i == j { squares[i] } else { 0.0 } - rho * y[i] * y[j];
        let matrix: Vec<f64> = (0..n * n).map(|at| entry((at / n, at % n))).collect();
        let expected = Eigen::of(&matrix, n).unwrap().values;
        let found = downdated(squares, y, rho);
        assert_eq!(found.len(), n);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected.max(0.0)).abs() <= 1e-14 * n as f64 * squares[0], "{found} {expected}");
        }
    }

    #[test]
    fn eigenvalues_are_those_of_the_matrix() {
        for n in [1, 2, 3, 9, 40] {
            for seed in 0..20 {
                let mut squares: Vec<f64> = numbers(n, seed).iter().map(|x| (3.0 * x).exp()).collect();
                squares.sort_by(|a, b| b.total_cmp(a));
                // As large as it may be: y = D^½ u with |u| = 1 takes the smallest eigenvalue to 0.
                let u = numbers(n, seed + 100);
                let length = u.iter().map(|x| x * x).sum::<f64>().sqrt();
                let y: Vec<f64> = squares.iter().zip(&u).map(|(d, u)| d.sqrt() * u / length).collect();
                check(&squares, &y, 1.0);
                check(&squares, &y, 0.3);
            }
        }
    }

    #[test]
    fn equal_and_untouched_directions_keep_their_eigenvalues() {
        check(&[4.0, 4.0, 4.0, 1.0, 1.0, 0.0], &[1.0, 0.5, 0.0, 0.2, 0.3, 0.0], 1.2);
        check(&[1.0 + 1e-15, 1.0, 1.0 - 1e-15, 1.0 - 1e-12], &[0.4, 0.4, 0.4, 0.4], 1.0);
        check(&[1.0, 1e-8, 1e-16], &[0.5, 1e-5, 1e-9], 1.0);
        check(&[2.0, 1.0], &[0.0, 0.0], 1.0);
        check(&[1e300, 1e299], &[1e149, 1e149], 1.0);
        check(&[1e-300, 1e-301], &[1e-151, 1e-151], 1.0);
        assert_eq!(downdated(&[0.0; 3], &[0.0; 3], 1.5), [0.0; 3]);
        assert_eq!(downdated(&[], &[], 1.5), [0.0; 0]);
    }
}
