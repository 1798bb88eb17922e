//! Choosing with given weights in constant time: Walker's alias method, in Vose's form.
//!
//! Every place holds at most two candidates, so that a choice is one look into the table.

/// A table of places to choose from.
#[derive(Debug)]
pub(crate) struct AliasTable {
    places: Box<[Place]>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    /// Out of 2³², how often the place itself is chosen.
    own: u32,
    /// What is chosen otherwise.
    other: u32,
}

impl AliasTable {
    /// A table over `weights`; there is one at least, each above 0 and finite.
    pub(crate) fn new(weights: &[f64]) -> Self {
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        let mut shares: Vec<f64> = weights.iter().map(|weight| weight / mean).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..shares.len()).partition(|&place| shares[place] < 1.0);
        // What rounding leaves over keeps its place to itself.
        let mut places: Vec<Place> =
            (0..shares.len()).map(|place| Place { own: u32::MAX, other: index(place) }).collect();
        while let (Some(&less), Some(&more)) = (small.last(), large.last()) {
            small.pop();
            places[less] = Place { own: fraction(shares[less]), other: index(more) };
            shares[more] -= 1.0 - shares[less];
            if shares[more] < 1.0 {
                large.pop();
                small.push(more);
            }
        }
        Self { places: places.into() }
    }

    /// The weights of Zipf's law for these ranks, which begin at 0: 1/(rank + 1)^theta.
    pub(crate) fn zipf(ranks: impl Iterator<Item = usize>, theta: f64) -> Self {
        let weights: Vec<f64> = ranks.map(|rank| (rank as f64 + 1.0).powf(-theta)).collect();
        Self::new(&weights)
    }

    pub(crate) fn choose(&self, random: &mut fastrand::Rng) -> usize {
        let at = random.usize(..self.places.len());
        let place = self.places[at];
        if random.u32(..) <= place.own { at } else { place.other as usize }
    }
}

fn index(place: usize) -> u32 {
    u32::try_from(place).expect("the command line bounds the streams")
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to below 2³²")]
fn fraction(share: f64) -> u32 {
    (share.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHOICES: usize = 1_000_000;

    fn counts(table: &AliasTable) -> Vec<usize> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut counts = vec![0; table.places.len()];
        for _ in 0..CHOICES {
            counts[table.choose(&mut random)] += 1;
        }
        counts
    }

    /// Each count is within five standard deviations of what its weight makes likely.
    fn assert_follows(counts: &[usize], weights: &[f64]) {
        let total: f64 = weights.iter().sum();
        for (place, (count, weight)) in counts.iter().zip(weights).enumerate() {
            let share = weight / total;
            let expected = share * CHOICES as f64;
            let deviation = (expected * (1.0 - share)).sqrt();
            let off = (*count as f64 - expected).abs();
            assert!(off <= 5.0 * deviation + 1.0, "place {place}: {count} for {expected}");
        }
    }

    #[test]
    fn choices_follow_zipfs_law() {
        let weights: Vec<f64> = (0..100).map(|rank| (f64::from(rank) + 1.0).powf(-0.99)).collect();
        assert_follows(&counts(&AliasTable::zipf(0..100, 0.99)), &weights);
    }

    #[test]
    fn a_part_of_the_ranks_keeps_their_proportions() {
        let weights: Vec<f64> =
            (3..100).step_by(8).map(|rank| (f64::from(rank) + 1.0).powf(-1.2)).collect();
        assert_follows(&counts(&AliasTable::zipf((3..100).step_by(8), 1.2)), &weights);
    }

    #[test]
    fn theta_zero_is_uniform_and_a_single_place_is_always_chosen() {
        assert_follows(&counts(&AliasTable::zipf(0..10, 0.0)), &[1.0; 10]);
        assert_eq!(counts(&AliasTable::zipf(5..6, 2.0)), [CHOICES]);
    }

    #[test]
    fn weights_of_very_different_sizes_are_followed() {
        let weights = [1e6, 1.0, 1.0, 1e3];
        assert_follows(&counts(&AliasTable::new(&weights)), &weights);
    }
}
