//! The kinds of metrics and how each is written.

use std::fmt::Write as _;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// The values of one label, a closed set.
pub trait Label: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// All values in the order of [`Label::index`].
    const ALL: &'static [Self];
    /// Place in [`Label::ALL`].
    fn index(self) -> usize;
    /// The word in the metric.
    fn value(self) -> &'static str;
}

/// Makes an enum whose variants are the values of a label.
macro_rules! labels {
    ($(#[$doc:meta])* pub enum $name:ident($label:literal) { $($variant:ident => $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $(#[doc = concat!("`", $word, "`")] $variant),+
        }

        impl $crate::metrics::kinds::Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn index(self) -> usize {
                self as usize
            }

            fn value(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }
    };
}
pub(super) use labels;

/// A number that only grows while the process lives.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Replaces the value; what exceeds i64 is cut.
    pub fn set(&self, value: u64) {
        self.0.store(i64::try_from(value).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// One more.
    pub fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A counter for each value of a label. `N` is the number of values.
#[derive(Debug)]
pub struct Counters<L: Label, const N: usize> {
    counters: [Counter; N],
    label: PhantomData<L>,
}

impl<L: Label, const N: usize> Default for Counters<L, N> {
    fn default() -> Self {
        const { assert!(L::ALL.len() == N, "one counter for each value of the label") };
        Self { counters: std::array::from_fn(|_| Counter::default()), label: PhantomData }
    }
}

impl<L: Label, const N: usize> Counters<L, N> {
    /// One more of this value.
    pub fn inc(&self, value: L) {
        self.add(value, 1);
    }

    /// `n` more of this value.
    pub fn add(&self, value: L, n: u64) {
        self.counters[value.index()].add(n);
    }

    /// The count of this value now.
    #[must_use]
    pub fn get(&self, value: L) -> u64 {
        self.counters[value.index()].get()
    }
}

/// A gauge for each value of a label. `N` is the number of values.
#[derive(Debug)]
pub struct Gauges<L: Label, const N: usize> {
    gauges: [Gauge; N],
    label: PhantomData<L>,
}

impl<L: Label, const N: usize> Default for Gauges<L, N> {
    fn default() -> Self {
        const { assert!(L::ALL.len() == N, "one gauge for each value of the label") };
        Self { gauges: std::array::from_fn(|_| Gauge::default()), label: PhantomData }
    }
}

impl<L: Label, const N: usize> Gauges<L, N> {
    /// The gauge of this value.
    #[must_use]
    pub fn of(&self, value: L) -> &Gauge {
        &self.gauges[value.index()]
    }
}

/// Upper ends of the buckets, in microseconds and as Prometheus shows them: from a quick disk flush to an answer that
/// no client waits for any more, close where the promises lie (2 ms alone, 60 ms under load, 300 ms at a failover).
const BUCKETS: [(u64, &str); 16] = [
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_000, "0.002"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (20_000, "0.02"),
    (30_000, "0.03"),
    (50_000, "0.05"),
    (60_000, "0.06"),
    (100_000, "0.1"),
    (200_000, "0.2"),
    (300_000, "0.3"),
    (600_000, "0.6"),
    (2_000_000, "2"),
    (10_000_000, "10"),
];

/// A distribution of durations over fixed buckets from 0.25 ms to 10 s.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS.len()],
    /// Longer than the last bucket.
    beyond: AtomicU64,
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.partition_point(|(end, _)| *end < us);
        self.buckets.get(bucket).unwrap_or(&self.beyond).fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }
}

/// Gathers the text.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) text: String,
}

// Writing to a String cannot fail, so the results are dropped.
impl Writer {
    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, counter: &Counter) {
        self.head(name, "counter", help);
        let _ = writeln!(self.text, "{name} {}", counter.get());
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, gauge: &Gauge) {
        self.head(name, "gauge", help);
        let _ = writeln!(self.text, "{name} {}", gauge.get());
    }

    /// A gauge kept in microseconds, written in seconds.
    pub(super) fn micros(&mut self, name: &str, help: &str, gauge: &Gauge) {
        self.head(name, "gauge", help);
        let us = u64::try_from(gauge.get()).unwrap_or(0);
        let _ = writeln!(self.text, "{name} {}", Duration::from_micros(us).as_secs_f64());
    }

    pub(super) fn counters<L: Label, const N: usize>(&mut self, name: &str, help: &str, counters: &Counters<L, N>) {
        self.head(name, "counter", help);
        self.counter_rows(name, None, counters);
    }

    /// The rows of one family alone, with one more label in front.
    pub(super) fn counter_rows<L: Label, const N: usize>(
        &mut self,
        name: &str,
        outer: Option<(&str, &str)>,
        counters: &Counters<L, N>,
    ) {
        let outer = outer.map_or_else(String::new, |(label, value)| format!("{label}=\"{value}\","));
        for value in L::ALL {
            let _ = writeln!(self.text, "{name}{{{outer}{}=\"{}\"}} {}", L::NAME, value.value(), counters.get(*value));
        }
    }

    pub(super) fn gauges<L: Label, const N: usize>(&mut self, name: &str, help: &str, gauges: &Gauges<L, N>) {
        self.head(name, "gauge", help);
        for value in L::ALL {
            let _ = writeln!(self.text, "{name}{{{}=\"{}\"}} {}", L::NAME, value.value(), gauges.of(*value).get());
        }
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let mut count = 0;
        for (bucket, (_, end)) in histogram.buckets.iter().zip(BUCKETS) {
            count += bucket.load(Ordering::Relaxed);
            let _ = writeln!(self.text, "{name}_bucket{{le=\"{end}\"}} {count}");
        }
        count += histogram.beyond.load(Ordering::Relaxed);
        let sum = Duration::from_micros(histogram.sum_us.load(Ordering::Relaxed)).as_secs_f64();
        let _ = writeln!(self.text, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}");
    }
}
