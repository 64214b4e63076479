//! Upper bounds, one-sided and with 95% confidence, of the rate of what was counted.

/// What the bound may still be wrong by.
const DOUBT: f64 = 0.05;

/// The largest share of trials that `counted` of `trials` still allow (Clopper and Pearson).
pub(super) fn binomial(counted: u32, trials: u32) -> f64 {
    if counted >= trials {
        return 1.0;
    }
    // The chance of at most `counted` falls as the share grows: the bound is where it reaches the doubt.
    bisect(1.0, |share| {
        let mut term = (1.0 - share).powi(trials.cast_signed());
        let mut sum = term;
        for count in 1..=counted {
            term *= f64::from(trials - count + 1) / f64::from(count) * share / (1.0 - share);
            sum += term;
        }
        sum
    })
}

/// The largest expected number that `counted` still allows, where there is no number of trials but a time.
pub(super) fn poisson(counted: u32) -> f64 {
    bisect(f64::from(counted) * 3.0 + 20.0, |expected| {
        let mut term = (-expected).exp();
        let mut sum = term;
        for count in 1..=counted {
            term *= expected / f64::from(count);
            sum += term;
        }
        sum
    })
}

/// Where in `0..high` a falling function crosses the doubt.
fn bisect(high: f64, chance: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, high);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if chance(middle) > DOUBT { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, wanted: f64) {
        assert!((found - wanted).abs() < wanted * 1e-3, "{found} is not {wanted}");
    }

    /// Against published tables, and the rule of three.
    #[test]
    fn bounds_are_those_of_the_tables() {
        near(binomial(0, 100), 1.0 - DOUBT.powf(0.01));
        near(binomial(1, 10), 0.394_2);
        near(binomial(2, 20), 0.282_6);
        near(poisson(0), 2.995_7);
        near(poisson(1), 4.743_9);
        near(poisson(5), 10.513);
        assert!((binomial(3, 3) - 1.0).abs() < f64::EPSILON);
    }
}
