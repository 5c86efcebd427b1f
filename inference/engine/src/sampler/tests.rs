//! The samplers against a reference of their own: every step written from its definition in double precision, with
//! full sorts and no care for speed. First the distributions before the draw, number by number, then the draws.

use std::sync::Arc;

use contract::SamplerKind;

use super::dry::Breakers;
use super::numbers::exp64;
use super::*;

/// Numbers for tests, not those of the samplers (Knuth's MMIX generator).
struct Lcg(u64);

impl Lcg {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn unit(&mut self) -> f64 {
        self.next() as f64 / (1u64 << 31) as f64
    }

    /// Roughly normal, as logits are.
    fn logits(&mut self, count: usize, width: f64) -> Vec<f32> {
        (0..count).map(|_| ((0..6).map(|_| self.unit()).sum::<f64>() - 3.0) as f32 * width as f32).collect()
    }
}

type Live = Vec<(usize, f64)>;

fn shares(live: &[(usize, f64)]) -> Vec<f64> {
    let highest = live.iter().map(|(_, logit)| *logit).fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = live.iter().map(|(_, logit)| (logit - highest).exp()).sum();
    live.iter().map(|(_, logit)| (logit - highest).exp() / total).collect()
}

fn entropy(shares: &[f64]) -> f64 {
    shares.iter().filter(|share| **share > 0.0).map(|share| -share * share.ln()).sum()
}

fn sort(live: &mut Live) {
    live.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
}

/// One step, from its definition.
fn reference_step(settings: &SamplerSettings, kind: SamplerKind, live: &mut Live, past: &[u32]) {
    let keep = settings.min_keep.max(1);
    match kind {
        SamplerKind::Penalties => reference_penalties(settings, live, past),
        SamplerKind::Dry => reference_dry(settings, live, past, &[]),
        SamplerKind::TopNSigma if settings.top_n_sigma > 0.0 => {
            let count = live.len() as f64;
            let mean = live.iter().map(|(_, logit)| logit).sum::<f64>() / count;
            let variance = live.iter().map(|(_, logit)| (logit - mean).powi(2)).sum::<f64>() / count;
            sort(live);
            let least = live[0].1 - f64::from(settings.top_n_sigma) * variance.sqrt();
            let kept = live.iter().filter(|(_, logit)| *logit >= least).count();
            live.truncate(kept.max(keep));
        }
        SamplerKind::TopK if settings.top_k > 0 => {
            sort(live);
            live.truncate((settings.top_k as usize).max(keep));
        }
        SamplerKind::TailFree if settings.tail_free_z < 1.0 && live.len() > 2 => {
            reference_tail_free(settings, live);
        }
        SamplerKind::Typical if settings.typical_p < 1.0 => {
            let shares = shares(live);
            let entropy = entropy(&shares);
            let mut order: Vec<usize> = (0..live.len()).collect();
            let distance = |place: usize| (-shares[place].ln() - entropy).abs();
            order.sort_by(|a, b| distance(*a).total_cmp(&distance(*b)));
            *live = fewest(live, &order, &shares, keep, |sum| sum > f64::from(settings.typical_p));
        }
        SamplerKind::TopP if settings.top_p < 1.0 => {
            sort(live);
            let shares = shares(live);
            let order: Vec<usize> = (0..live.len()).collect();
            *live = fewest(live, &order, &shares, keep, |sum| sum >= f64::from(settings.top_p));
        }
        SamplerKind::MinP if settings.min_p > 0.0 => {
            sort(live);
            let shares = shares(live);
            let kept = shares.iter().filter(|share| **share >= f64::from(settings.min_p) * shares[0]).count();
            live.truncate(kept.max(keep));
        }
        SamplerKind::Xtc if settings.xtc_probability > 0.0 && settings.xtc_threshold <= 0.5 => {
            sort(live);
            let above =
                shares(live).iter().filter(|share| **share >= f64::from(settings.xtc_threshold)).count();
            if above > 1 && live.len() - (above - 1) >= settings.min_keep {
                live.drain(..above - 1);
            }
        }
        SamplerKind::Temperature => {
            let (temperature, range) = (f64::from(settings.temperature), f64::from(settings.dynamic_range));
            let share = entropy(&shares(live)) / (live.len() as f64).ln();
            let temperature = match range > 0.0 && live.len() > 1 {
                true => {
                    let low = (temperature - range).max(0.0);
                    low + (temperature + range - low) * share.powf(f64::from(settings.dynamic_exponent))
                }
                false => temperature,
            };
            live.iter_mut().for_each(|(_, logit)| *logit /= temperature);
        }
        _ => {}
    }
}

fn reference_tail_free(settings: &SamplerSettings, live: &mut Live) {
    let keep = settings.min_keep.max(1);
    sort(live);
    let shares = shares(live);
    let first: Vec<f64> = shares.windows(2).map(|pair| pair[0] - pair[1]).collect();
    let second: Vec<f64> = first.windows(2).map(|pair| (pair[0] - pair[1]).abs()).collect();
    let total: f64 = second.iter().sum();
    let mut sum = 0.0;
    for (place, bend) in second.iter().enumerate() {
        sum += bend / total;
        if sum > f64::from(settings.tail_free_z) {
            live.truncate(place.max(keep));
            break;
        }
    }
}

fn fewest(live: &Live, order: &[usize], shares: &[f64], keep: usize, reached: impl Fn(f64) -> bool) -> Live {
    let (mut kept, mut sum) = (Live::new(), 0.0);
    for place in order {
        kept.push(live[*place]);
        sum += shares[*place];
        if reached(sum) && kept.len() >= keep {
            break;
        }
    }
    kept
}

fn reference_penalties(settings: &SamplerSettings, live: &mut Live, past: &[u32]) {
    let penalties = &settings.penalties;
    let window = &past[past.len().saturating_sub(penalties.last_n)..];
    for (id, logit) in live {
        let count = window.iter().filter(|token| **token as usize == *id).count() as f64;
        if count > 0.0 {
            let repeat = f64::from(penalties.repeat);
            *logit = if *logit <= 0.0 { *logit * repeat } else { *logit / repeat };
            *logit -= count * f64::from(penalties.frequency) + f64::from(penalties.presence);
        }
    }
}

/// For every token and every earlier place where it stood: how many tokens before that place are the last tokens.
fn reference_dry(settings: &SamplerSettings, live: &mut Live, past: &[u32], breakers: &[u32]) {
    let dry = &settings.dry;
    let window = &past[past.len().saturating_sub(dry.last_n)..];
    if dry.multiplier == 0.0 {
        return;
    }
    let since_breaker = window.iter().rev().take_while(|token| !breakers.contains(token)).count();
    for (id, logit) in live {
        let mut longest = None;
        for place in 1..window.len() {
            if window[place] as usize == *id && !breakers.contains(&window[place]) {
                let (before, all) = (&window[..place], window);
                let same = before.iter().rev().zip(all.iter().rev()).take_while(|(a, b)| a == b).count();
                longest = longest.max(Some(same.min(since_breaker)));
            }
        }
        if let Some(length) = longest.filter(|length| *length >= dry.allowed_length) {
            let exponent = (length - dry.allowed_length) as i32;
            *logit -= f64::from(dry.multiplier) * f64::from(dry.base).powi(exponent);
        }
    }
}

fn reference(settings: &SamplerSettings, logits: &[f32], past: &[u32]) -> Vec<f64> {
    let mut live: Live = logits.iter().map(|logit| f64::from(*logit)).enumerate().collect();
    live.retain(|(_, logit)| *logit > f64::NEG_INFINITY);
    for kind in &settings.order {
        reference_step(settings, *kind, &mut live, past);
    }
    let mut all = vec![0.0; logits.len()];
    for ((id, _), share) in live.iter().zip(shares(&live)) {
        all[*id] = share;
    }
    all
}

fn sampler(settings: &SamplerSettings) -> Sampler {
    Sampler::new(settings.clone(), Words::default(), Arc::default())
}

/// The distribution that ours would draw from.
fn ours(sampler: &mut Sampler, logits: &[f32], past: &[u32]) -> Vec<f64> {
    let mut changed = logits.to_vec();
    sampler.prepare(&mut changed, past);
    let mass = sampler.candidates.mass(&changed);
    let mut all = vec![0.0; logits.len()];
    for candidate in sampler.candidates.listed(&changed) {
        all[candidate.id as usize] = exp64(mass.logprob(candidate.logit));
    }
    all
}

fn compare(what: &str, ours: &[f64], want: &[f64]) {
    for (id, (ours, want)) in ours.iter().zip(want).enumerate() {
        assert_eq!(*ours > 0.0, *want > 0.0, "{what}: token {id}: {ours}, want {want}");
        assert!((ours - want).abs() <= 2e-5 * want + 1e-9, "{what}: token {id}: {ours}, want {want}");
    }
}

type Change = fn(&mut SamplerSettings);

/// Every step alone, and together with others.
const CASES: &[(&str, Change)] = &[
    ("plain", |_| {}),
    ("cold", |s| s.temperature = 0.3),
    ("hot", |s| s.temperature = 2.5),
    ("dynamic", |s| (s.temperature, s.dynamic_range) = (0.9, 0.5)),
    ("dynamic to 0, bent", |s| (s.temperature, s.dynamic_range, s.dynamic_exponent) = (0.4, 0.6, 1.7)),
    ("top-k", |s| s.top_k = 7),
    ("top-k of all", |s| s.top_k = 100_000),
    ("top-k, min-keep", |s| (s.top_k, s.min_keep) = (3, 5)),
    ("top-p", |s| s.top_p = 0.8),
    ("top-p of nearly all", |s| s.top_p = 0.9999),
    ("top-p of nothing", |s| s.top_p = 0.0),
    ("top-p, min-keep", |s| (s.top_p, s.min_keep) = (0.01, 6)),
    ("min-p", |s| s.min_p = 0.1),
    ("min-p, min-keep", |s| (s.min_p, s.min_keep) = (0.99, 4)),
    ("typical", |s| s.typical_p = 0.5),
    ("typical of nearly all", |s| s.typical_p = 0.995),
    ("typical, min-keep", |s| (s.typical_p, s.min_keep) = (0.01, 9)),
    ("tail-free", |s| s.tail_free_z = 0.8),
    ("tail-free, min-keep", |s| (s.tail_free_z, s.min_keep) = (0.05, 5)),
    ("top-n-sigma", |s| s.top_n_sigma = 1.0),
    ("top-n-sigma, min-keep", |s| (s.top_n_sigma, s.min_keep) = (0.01, 8)),
    ("xtc", |s| (s.xtc_probability, s.xtc_threshold) = (1.0, 0.02)),
    ("xtc, never two", |s| (s.xtc_probability, s.xtc_threshold) = (1.0, 0.5)),
    ("xtc off by its threshold", |s| (s.xtc_probability, s.xtc_threshold) = (1.0, 0.51)),
    ("xtc, min-keep", |s| (s.xtc_probability, s.xtc_threshold, s.min_keep, s.top_k) = (1.0, 0.001, 9, 10)),
    ("repeat", |s| s.penalties.repeat = 1.7),
    ("repeat, short memory", |s| (s.penalties.repeat, s.penalties.last_n) = (2.0, 3)),
    ("presence", |s| (s.penalties.presence, s.penalties.last_n) = (0.7, usize::MAX)),
    ("frequency", |s| s.penalties.frequency = 0.4),
    ("all penalties", |s| {
        (s.penalties.repeat, s.penalties.presence, s.penalties.frequency) = (1.2, -0.5, 0.3);
    }),
    ("dry", |s| (s.dry.multiplier, s.dry.last_n) = (0.8, usize::MAX)),
    ("dry, short memory", |s| (s.dry.multiplier, s.dry.last_n, s.dry.allowed_length) = (0.5, 30, 1)),
    ("dry, everything", |s| (s.dry.multiplier, s.dry.allowed_length) = (0.3, 0)),
    ("a chain", |s| (s.top_k, s.top_p, s.min_p, s.temperature) = (40, 0.9, 0.05, 0.8)),
    ("the longest chain", |s| {
        (s.top_k, s.top_p, s.min_p, s.temperature, s.typical_p) = (60, 0.95, 0.01, 0.7, 0.97);
        (s.tail_free_z, s.top_n_sigma, s.xtc_probability, s.xtc_threshold) = (0.98, 2.5, 1.0, 0.1);
        (s.penalties.repeat, s.dry.multiplier, s.dynamic_range) = (1.1, 0.8, 0.3);
    }),
    ("temperature first", |s| {
        (s.temperature, s.top_p, s.min_p) = (1.8, 0.6, 0.02);
        s.order = vec![SamplerKind::Temperature, SamplerKind::MinP, SamplerKind::TopP];
    }),
    ("penalties last", |s| {
        (s.penalties.repeat, s.top_k, s.dry.multiplier, s.top_p) = (1.5, 30, 0.6, 0.9);
        s.order = vec![SamplerKind::TopK, SamplerKind::Penalties, SamplerKind::Dry, SamplerKind::TopP];
    }),
    ("cuts in another order", |s| {
        (s.top_n_sigma, s.min_p, s.typical_p, s.tail_free_z) = (2.0, 0.03, 0.9, 0.97);
        s.order =
            vec![SamplerKind::Typical, SamplerKind::TopNSigma, SamplerKind::MinP, SamplerKind::TailFree];
    }),
    ("nothing at all", |s| (s.order, s.top_k) = (Vec::new(), 5)),
];

/// A past with repetitions in it.
fn a_past(random: &mut Lcg, vocabulary: u64, length: usize) -> Vec<u32> {
    let mut past: Vec<u32> = Vec::new();
    while past.len() < length {
        if past.len() > 4 && random.next().is_multiple_of(3) {
            let start = random.next() as usize % (past.len() - 3);
            let piece = past[start..(start + 2 + random.next() as usize % 6).min(past.len())].to_vec();
            past.extend(piece);
        } else {
            past.push((random.next() % vocabulary) as u32);
        }
    }
    past
}

fn with(change: Change) -> SamplerSettings {
    let mut settings = SamplerSettings::plain(5);
    change(&mut settings);
    settings
}

#[test]
fn every_step_is_what_its_definition_says() {
    let mut random = Lcg(1);
    for (what, change) in CASES {
        let settings = with(*change);
        for (vocabulary, width) in [(2, 1.0), (40, 0.4), (300, 2.0), (3000, 3.0), (700, 0.02)] {
            let logits = random.logits(vocabulary, width);
            let past = a_past(&mut random, vocabulary as u64, 60);
            let want = reference(&settings, &logits, &past);
            compare(&format!("{what}, {vocabulary}"), &ours(&mut sampler(&settings), &logits, &past), &want);
        }
    }
}

#[test]
fn masked_tokens_never_come_back() {
    let mut random = Lcg(2);
    for (what, change) in CASES {
        let settings = with(*change);
        let mut logits = random.logits(500, 2.0);
        let allowed: Vec<usize> = (0..500).filter(|_| random.next().is_multiple_of(20)).collect();
        for (id, logit) in logits.iter_mut().enumerate() {
            if !allowed.contains(&id) {
                *logit = f32::NEG_INFINITY;
            }
        }
        let past = a_past(&mut random, 500, 40);
        compare(what, &ours(&mut sampler(&settings), &logits, &past), &reference(&settings, &logits, &past));
        let mut only_one = vec![f32::NEG_INFINITY; 500];
        only_one[321] = -7.5;
        assert_eq!(sampler(&settings).sample(&mut only_one, &past), 321, "{what}");
    }
}

/// Which token has which number changes nothing but who is drawn.
#[test]
fn distributions_follow_a_permutation_of_the_tokens() {
    let mut random = Lcg(3);
    for (what, change) in CASES {
        let settings = with(*change);
        let logits = random.logits(200, 1.5);
        let past = a_past(&mut random, 200, 50);
        let mut place: Vec<usize> = (0..200).collect();
        for last in (1..200).rev() {
            place.swap(last, random.next() as usize % (last + 1));
        }
        let mut moved = vec![0.0; 200];
        place.iter().zip(&logits).for_each(|(to, logit)| moved[*to] = *logit);
        let moved_past: Vec<u32> = past.iter().map(|id| place[*id as usize] as u32).collect();
        let before = ours(&mut sampler(&settings), &logits, &past);
        let after = ours(&mut sampler(&settings), &moved, &moved_past);
        let back: Vec<f64> = place.iter().map(|to| after[*to]).collect();
        compare(what, &back, &before);
    }
}

/// Equal logits are where selections go wrong: of equals the lower ids stay.
#[test]
fn ties_are_broken_by_id() {
    let mut random = Lcg(4);
    for keep in [1, 7, 40, 500, 4999, 5000, 9000] {
        let logits: Vec<f32> = (0..5000).map(|_| (random.next() % 12) as f32).collect();
        let mut want: Vec<u32> = (0..5000).collect();
        want.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
        want.truncate(keep);
        let ids = |candidates: &mut Candidates| -> Vec<u32> {
            candidates.sorted(&logits).iter().map(|candidate| candidate.id).collect()
        };
        let mut whole = Candidates::default();
        whole.start();
        whole.keep_best(&logits, keep);
        assert_eq!(ids(&mut whole), want, "{keep}");
        let mut listed = Candidates::default();
        listed.start();
        listed.listed(&logits);
        listed.keep_best(&logits, keep);
        assert_eq!(ids(&mut listed), want, "{keep}");
        listed.start();
        let mass = listed.mass(&logits);
        listed.keep_nearest(&logits, mass, 0.0, keep, |sum| sum > 2.0);
        assert_eq!(listed.len(&logits), 5000, "nothing reaches twice the mass");
        listed.start();
        listed.keep_nearest(&logits, mass, f64::from(mass.highest), keep, |_| true);
        assert_eq!(ids(&mut listed), want, "{keep}");
    }
}

/// Chi-square of draws against the reference; the bound is 5 standard deviations above its mean.
fn chi_square(what: &str, draws: &[u32], want: &[f64]) {
    let count = draws.len() as f64;
    let mut seen = vec![0.0; want.len()];
    draws.iter().for_each(|id| seen[*id as usize] += 1.0);
    let (mut sum, mut cells, mut rest_seen, mut rest_want) = (0.0, 0.0, 0.0, 0.0);
    for (seen, want) in seen.iter().zip(want) {
        assert!(*want > 0.0 || *seen == 0.0, "{what}: something impossible was drawn");
        if want * count >= 8.0 {
            sum += (seen - want * count).powi(2) / (want * count);
            cells += 1.0;
        } else {
            rest_seen += seen;
            rest_want += want * count;
        }
    }
    if rest_want >= 8.0 {
        sum += (rest_seen - rest_want).powi(2) / rest_want;
        cells += 1.0;
    }
    let freedom: f64 = cells - 1.0;
    assert!(sum <= freedom + 5.0 * (2.0 * freedom).sqrt() + 1e-9, "{what}: {sum} with {freedom} degrees");
}

#[test]
fn draws_follow_the_distribution() {
    let mut random = Lcg(6);
    for (what, change) in CASES {
        let settings = with(*change);
        for vocabulary in [30, 400] {
            let logits = random.logits(vocabulary, 1.5);
            let past = a_past(&mut random, vocabulary as u64, 40);
            let mut sampler = sampler(&settings);
            let draws: Vec<u32> = (0..1500).map(|_| sampler.sample(&mut logits.clone(), &past)).collect();
            chi_square(what, &draws, &reference(&settings, &logits, &past));
        }
    }
}

#[test]
fn the_coin_of_xtc_falls_as_often_as_it_should() {
    let logits = [2.0, 1.5, 0.0, -1.0];
    let mut settings = SamplerSettings::plain(11);
    (settings.xtc_probability, settings.xtc_threshold) = (0.25, 0.2);
    let without = reference(&SamplerSettings::plain(11), &logits, &[]);
    let with = reference(&settings, &logits, &[]);
    let want: Vec<f64> = without.iter().zip(&with).map(|(a, b)| 0.75 * a + 0.25 * b).collect();
    let mut sampler = sampler(&settings);
    let draws: Vec<u32> = (0..40_000).map(|_| sampler.sample(&mut logits.clone(), &[])).collect();
    chi_square("xtc", &draws, &want);
}

#[test]
fn dry_stops_at_breakers_and_spares_them() {
    let mut random = Lcg(7);
    for case in 0..200 {
        let (single, vocabulary) = (random.next() as u32 % 12, 12);
        let mut breakers = Breakers::default();
        breakers.insert(single, Vec::new());
        let mut settings = SamplerSettings::plain(1);
        (settings.dry.multiplier, settings.dry.allowed_length) = (0.7, 1 + random.next() as usize % 3);
        settings.dry.last_n = 20 + random.next() as usize % 60;
        let logits = random.logits(vocabulary, 1.0);
        let past = a_past(&mut random, vocabulary as u64, 50);
        let mut live: Live = logits.iter().map(|logit| f64::from(*logit)).enumerate().collect();
        reference_dry(&settings, &mut live, &past, &[single]);
        let mut ours_too = Sampler::new(settings, Words::default(), Arc::new(breakers));
        compare(&format!("case {case}"), &ours(&mut ours_too, &logits, &past), &shares(&live));
    }
}

#[test]
fn breakers_of_several_tokens() {
    let mut breakers = Breakers::default();
    breakers.insert(7, vec![8]);
    let mut settings = SamplerSettings::plain(1);
    (settings.dry.multiplier, settings.dry.base) = (1.0, 2.0);
    let check = |past: &[u32], want: f32| {
        let mut sampler = Sampler::new(settings.clone(), Words::default(), Arc::new(breakers.clone()));
        let mut logits = [0.0; 10];
        sampler.prepare(&mut logits, past);
        assert_eq!(logits[5], want, "{past:?}");
    };
    // Three tokens of repetition before 5: 2^(3 - 2).
    check(&[1, 2, 3, 5, 9, 1, 2, 3], -2.0);
    // 7 alone is no breaker, 7 8 is: only one token is behind it.
    check(&[7, 2, 3, 5, 9, 7, 2, 3], -2.0);
    check(&[7, 8, 3, 5, 9, 7, 8, 3], 0.0);
    check(&[7, 8, 2, 3, 5, 9, 7, 8, 2, 3], -1.0);
}

#[test]
fn penalties_follow_a_sequence_that_grows_and_shrinks() {
    let mut random = Lcg(8);
    let mut settings = SamplerSettings::plain(1);
    (settings.penalties.repeat, settings.penalties.frequency, settings.penalties.last_n) = (1.3, 0.2, 16);
    let mut kept = sampler(&settings);
    let mut past: Vec<u32> = Vec::new();
    for step in 0..300 {
        if step % 50 == 49 {
            past.truncate(past.len() / 2);
        }
        past.push(random.next() as u32 % 20);
        let logits = random.logits(20, 1.0);
        compare(
            &format!("step {step}"),
            &ours(&mut kept, &logits, &past),
            &reference(&settings, &logits, &past),
        );
    }
}

#[test]
fn line_breaks_are_spared_when_asked() {
    let mut settings = SamplerSettings::plain(1);
    (settings.penalties.presence, settings.penalties.newline) = (1.0, false);
    let words = Words { newline: vec![2], ..Words::default() };
    let mut sampler = Sampler::new(settings, words, Arc::default());
    let mut logits = [0.0; 4];
    sampler.prepare(&mut logits, &[1, 2]);
    assert_eq!(logits, [0.0, -1.0, 0.0, 0.0]);
}

/// Both versions, in double precision, told which token ours drew.
struct ReferenceMirostat {
    version: u8,
    tau: f64,
    eta: f64,
    mu: f64,
}

impl ReferenceMirostat {
    fn shares(&self, logits: &[f32], temperature: f64) -> Vec<f64> {
        let mut live: Live = logits.iter().map(|logit| f64::from(*logit) / temperature).enumerate().collect();
        sort(&mut live);
        let all = shares(&live);
        let kept = if self.version == 1 {
            let pairs = all[..100.min(all.len())].windows(2).enumerate();
            let (mut product, mut square) = (0.0, 0.0);
            for (i, pair) in pairs {
                let t = ((i as f64 + 2.0) / (i as f64 + 1.0)).ln();
                product += t * (pair[0] / pair[1]).ln();
                square += t * t;
            }
            let s = product / square;
            let epsilon = s - 1.0;
            let k = (epsilon * self.mu.exp2() / (1.0 - (all.len() as f64).powf(-epsilon))).powf(1.0 / s);
            (k as usize).max(1)
        } else {
            all.iter().filter(|share| -share.log2() <= self.mu).count().max(1)
        };
        live.truncate(kept);
        let mut by_id = vec![0.0; logits.len()];
        live.iter().zip(shares(&live)).for_each(|((id, _), share)| by_id[*id] = share);
        by_id
    }

    fn drew(&mut self, share: f64) {
        self.mu -= self.eta * (-share.log2() - self.tau);
    }
}

#[test]
fn mirostat_steers_as_its_definition_says() {
    for version in [1, 2] {
        let mut random = Lcg(9);
        let mut settings = SamplerSettings::plain(3);
        settings.mirostat = MirostatSettings { version, tau: 3.0, eta: 0.1 };
        // Cuts have no say.
        (settings.temperature, settings.top_k, settings.xtc_probability) = (0.9, 1, 1.0);
        let mut want = ReferenceMirostat { version, tau: 3.0, eta: f64::from(0.1f32), mu: 6.0 };
        let mut sampler = sampler(&settings);
        let mut surprise = 0.0;
        for step in 0..2000 {
            let logits = random.logits(400, 2.0);
            let shares = want.shares(&logits, f64::from(0.9f32));
            let drawn = sampler.sample(&mut logits.clone(), &[]) as usize;
            assert!(shares[drawn] > 0.0, "version {version}, step {step}: token {drawn} was cut");
            want.drew(shares[drawn]);
            surprise -= shares[drawn].log2() / 2000.0;
        }
        assert!((surprise - 3.0).abs() < 0.1, "version {version}: mean surprise {surprise}, aimed at 3");
        // One place many times, without learning: the draws of that distribution.
        settings.mirostat.eta = 0.0;
        let logits = random.logits(400, 2.0);
        let mut fixed = self::sampler(&settings);
        let draws: Vec<u32> = (0..8000).map(|_| fixed.sample(&mut logits.clone(), &[])).collect();
        let want = ReferenceMirostat { version, tau: 3.0, eta: 0.0, mu: 6.0 };
        chi_square("mirostat", &draws, &want.shares(&logits, f64::from(0.9f32)));
    }
}

/// Adaptive-p in double precision.
fn reference_adaptive(logits: &[f32], target: f64, sum: f64, weight: f64) -> (Vec<f64>, Vec<f64>) {
    let live: Live = logits.iter().map(|logit| f64::from(*logit)).enumerate().collect();
    let before = shares(&live);
    let aim = (2.0 * target - sum / weight).clamp(0.0, 1.0);
    let after: Live = before
        .iter()
        .map(|share| ((share - aim) / 0.3).abs())
        .map(|distance| 5.0 - 10.0 * distance * distance / (1.0 + distance))
        .enumerate()
        .collect();
    (before, shares(&after))
}

#[test]
fn adaptive_p_steers_as_its_definition_says() {
    let mut random = Lcg(10);
    let mut settings = SamplerSettings::plain(4);
    settings.adaptive = AdaptiveSettings { target: 0.4, decay: 0.9 };
    let (target, decay) = (f64::from(0.4f32), f64::from(0.9f32));
    let logits = random.logits(12, 2.0);
    let (mut weight, mut sum) = (1.0 / (1.0 - decay), target / (1.0 - decay));
    // The first draw of many sequences has the distribution of the state at the start.
    let first: Vec<u32> = (0..8000)
        .map(|seed| sampler(&SamplerSettings { seed, ..settings.clone() }).sample(&mut logits.clone(), &[]))
        .collect();
    chi_square("adaptive-p", &first, &reference_adaptive(&logits, target, sum, weight).1);
    // Later draws of one sequence, told what it drew before.
    let mut one = sampler(&settings);
    for step in 0..200 {
        let logits = random.logits(12, 2.0);
        let (before, _) = reference_adaptive(&logits, target, sum, weight);
        let drawn = one.sample(&mut logits.clone(), &[]) as usize;
        sum = before[drawn] + decay * sum;
        weight = 1.0 + decay * weight;
        assert!((one.adaptive.mean() - sum / weight).abs() < 1e-4, "step {step}");
    }
    // Out of the order, it is out.
    settings.order.retain(|kind| *kind != SamplerKind::AdaptiveP);
    let mut plain = sampler(&settings);
    let draws: Vec<u32> = (0..8000).map(|_| plain.sample(&mut logits.clone(), &[])).collect();
    chi_square("no adaptive-p", &draws, &reference(&SamplerSettings::plain(1), &logits, &[]));
}

#[test]
fn greed_takes_the_first_of_the_best() {
    let mut settings = SamplerSettings::plain(7);
    (settings.temperature, settings.xtc_probability, settings.top_k) = (0.0, 1.0, 1);
    for version in [0, 1, 2] {
        settings.mirostat.version = version;
        let mut sampler = sampler(&settings);
        assert_eq!(sampler.sample(&mut [0.0, 3.0, 3.0, f32::NAN], &[]), 1);
    }
    settings.penalties.presence = 10.0;
    assert_eq!(sampler(&settings).sample(&mut [0.0, 3.0, 2.0], &[1]), 2, "penalties are heard");
    // Dynamic temperature is a temperature.
    let mut dynamic = SamplerSettings::plain(7);
    (dynamic.temperature, dynamic.dynamic_range) = (0.0, 1.0);
    let mut drawn = sampler(&dynamic);
    let draws: Vec<u32> = (0..200).map(|_| drawn.sample(&mut [0.0, 0.1, 0.2], &[])).collect();
    assert!(draws.contains(&0) && draws.contains(&2));
}

#[test]
fn a_seed_says_everything() {
    let run = |seed, change: Change| {
        let mut settings = with(change);
        settings.seed = seed;
        let mut random = Lcg(12);
        let mut sampler = sampler(&settings);
        let mut past = vec![1, 2, 3];
        for _ in 0..60 {
            let mut logits = random.logits(300, 1.0);
            let id = sampler.sample(&mut logits, &past);
            past.push(id);
        }
        past
    };
    for (what, change) in CASES {
        assert_eq!(run(1, *change), run(1, *change), "{what}");
        if !["top-p of nothing"].contains(what) {
            assert_ne!(run(1, *change), run(2, *change), "{what}");
        }
    }
    // As numpy's softmax and a splitmix64 in Python give them. Other numbers here are other answers to every seed, and
    // belong in the changelog.
    assert_eq!(run(42, |_| {})[3..9], [227, 53, 68, 94, 19, 255]);
}

#[test]
fn an_answer_that_is_too_short_cannot_end() {
    let mut settings = SamplerSettings::plain(1);
    (settings.temperature, settings.min_tokens) = (0.0, 2);
    let words = Words { ends: vec![3], stops: vec![2], ..Words::default() };
    let mut sampler = Sampler::new(settings, words, Arc::default());
    let mut past = vec![3, 3, 3];
    for want in [1, 1, 3] {
        let id = sampler.sample(&mut [0.0, 1.0, 2.0, 3.0], &past);
        assert_eq!(id, want, "{past:?}");
        past.push(id);
    }
    assert!(sampler.must_go_on(1) && !sampler.must_go_on(2));
    assert!(sampler.stops_at(2) && !sampler.stops_at(3));
}

#[test]
fn extreme_logits_still_give_a_token() {
    let (infinite, never, none) = (f32::INFINITY, f32::NEG_INFINITY, f32::NAN);
    for (what, change) in CASES {
        for version in [0, 1, 2] {
            let mut settings = with(*change);
            settings.mirostat.version = version;
            for logits in [[infinite, 0.0], [never, never], [none, none], [never, 0.0], [3e38, -3e38]] {
                let id = sampler(&settings).sample(&mut logits.clone(), &[0, 1, 0, 1, 0, 1]);
                assert!(id < 2, "{what}: {logits:?}");
            }
        }
        assert_eq!(sampler(&with(*change)).sample(&mut [], &[]), 0, "{what}");
    }
}
