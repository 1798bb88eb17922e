//! Pacing: when the next append is to be sent.
//!
//! A closed loop sends when the one before is acknowledged. An open loop has a schedule that does not
//! wait for the store: its latencies count from the time that was intended, so that a store that stalls
//! is charged for all that it kept waiting.

/// What is sent this much after its time was sent late.
const LATE_NS: u64 = 1_000_000;

/// Of an open loop, what did not go as intended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Slips {
    /// Sent more than a millisecond after its time.
    pub late: u64,
    /// Not sent at all, since the load was over first.
    pub skipped: u64,
}

impl Slips {
    pub(crate) fn add(&mut self, more: Self) {
        self.late += more.late;
        self.skipped += more.skipped;
    }
}

/// One client's part of a rate that all clients keep together: its sends lie evenly between the others'.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    per_second: f64,
    clients: u64,
    /// The number of the next send among those of all clients.
    next: u64,
    slips: Slips,
}

impl Schedule {
    pub(crate) fn new(per_second: f64, client: usize, clients: usize) -> Self {
        let (next, clients) = (client as u64, clients as u64);
        Self { per_second, clients, next, slips: Slips::default() }
    }

    /// When the next one is to be sent, in nanoseconds since the beginning.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time to come")]
    pub(crate) fn intended(&self) -> u64 {
        (self.next as f64 * 1e9 / self.per_second) as u64
    }

    /// The next one was sent.
    pub(crate) fn sent(&mut self, now: u64) {
        self.slips.late += u64::from(now.saturating_sub(self.intended()) > LATE_NS);
        self.next += self.clients;
    }

    /// The load is over: what was to be sent before `end` and was not is skipped.
    pub(crate) fn finish(&mut self, end: u64) -> Slips {
        while self.intended() < end {
            self.slips.skipped += 1;
            self.next += self.clients;
        }
        self.slips
    }
}

/// A client's way to pace itself.
#[derive(Debug, Clone)]
pub(crate) enum Pace {
    Closed,
    Open(Schedule),
}

/// What a client is to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Send; the latency counts from then.
    Send {
        since: u64,
    },
    /// Come again then.
    Wait {
        until: u64,
    },
    Over,
}

impl Pace {
    /// What is to be done at `now`, where the load ends at `end`. After [`Turn::Send`] it is taken as
    /// sent.
    pub(crate) fn turn(&mut self, now: u64, end: u64) -> Turn {
        if now >= end {
            return Turn::Over;
        }
        match self {
            Self::Closed => Turn::Send { since: now },
            Self::Open(schedule) => {
                let intended = schedule.intended();
                if intended >= end {
                    Turn::Over
                } else if intended > now {
                    Turn::Wait { until: intended }
                } else {
                    schedule.sent(now);
                    Turn::Send { since: intended }
                }
            }
        }
    }

    /// What slipped until the load's end.
    pub(crate) fn finish(&mut self, end: u64) -> Slips {
        match self {
            Self::Closed => Slips::default(),
            Self::Open(schedule) => schedule.finish(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn pace(client: usize) -> Pace {
        Pace::Open(Schedule::new(1000.0, client, 4))
    }

    #[test]
    fn a_closed_loop_sends_at_once_until_the_end() {
        let mut pace = Pace::Closed;
        assert_eq!(pace.turn(5, 10), Turn::Send { since: 5 });
        assert_eq!(pace.turn(10, 10), Turn::Over);
        assert_eq!(pace.finish(10), Slips::default());
    }

    #[test]
    fn clients_take_turns_in_one_rate() {
        for client in 0..4 {
            let mut pace = pace(client);
            let own = client as u64 * MS;
            let later = own + 4 * MS;
            assert_eq!(pace.turn(own, u64::MAX), Turn::Send { since: own });
            assert_eq!(pace.turn(own, u64::MAX), Turn::Wait { until: later });
            assert_eq!(pace.turn(later + 7, u64::MAX), Turn::Send { since: later });
        }
    }

    #[test]
    fn a_stall_makes_what_was_due_late_but_counts_from_its_time() {
        let mut pace = pace(0);
        assert_eq!(pace.turn(0, 100 * MS), Turn::Send { since: 0 });
        for due in [4, 8, 12] {
            assert_eq!(pace.turn(12 * MS + 1, 100 * MS), Turn::Send { since: due * MS });
        }
        assert_eq!(pace.turn(12 * MS + 1, 100 * MS), Turn::Wait { until: 16 * MS });
        assert_eq!(pace.finish(13 * MS), Slips { late: 2, skipped: 0 });
    }

    #[test]
    fn what_was_due_but_not_sent_before_the_end_is_skipped() {
        let mut pace = pace(0);
        assert_eq!(pace.turn(0, 20 * MS), Turn::Send { since: 0 });
        assert_eq!(pace.turn(20 * MS, 20 * MS), Turn::Over);
        // Those of 4, 8, 12 and 16 ms.
        assert_eq!(pace.finish(20 * MS), Slips { late: 0, skipped: 4 });
    }
}
