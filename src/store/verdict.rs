//! What a 403 means: too old a session, or a real no.
//!
//! S3 says `AccessDenied` for a policy's `aws:MultiFactorAuthAge`, for a session that expired
//! (Ceph and others), and for things that are simply not allowed. The difference is told by
//! experience: what worked with this very session before, and what a cheap repetition of it
//! does now.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::auth::Generation;

/// How young a session is too young to have worn out.
pub(crate) const FRESH: Duration = Duration::from_secs(60);

/// The most scopes that are remembered of one generation, and over all of them.
const REMEMBERED: usize = 10_000;

/// What is asked of S3; a policy can allow each and deny the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// HEAD and GET: `s3:GetObject`.
    Read,
    /// `s3:ListBucket`.
    List,
    /// PUT, copies and multipart uploads: `s3:PutObject`.
    Write,
    /// `s3:DeleteObject`.
    Delete,
}

impl Action {
    /// Whether it can be repeated to find something out, without changing anything.
    fn is_harmless(self) -> bool {
        matches!(self, Self::Read | Self::List)
    }
}

/// What a request is about: an action on a key, or on a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    pub(crate) action: Action,
    /// The key that is read, the prefix that is listed.
    pub(crate) key: String,
}

/// An action under a prefix: these are allowed or denied together, mostly.
type Area = (Action, String);

impl Scope {
    fn area(&self) -> Area {
        let prefix = self.key.rfind('/').map_or("", |slash| &self.key[..=slash]);
        (self.action, prefix.to_owned())
    }
}

/// What is known about the present generation, and the little that outlives it.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    generation: Generation,
    /// What was allowed, with the last key that was.
    allowed: HashMap<Area, String>,
    /// What was denied while other things worked.
    denied: HashSet<Area>,
    /// Where a denial was told to the log.
    told: HashSet<Area>,
    /// The last thing that worked and changes nothing.
    witness: Option<Scope>,
    /// Anything worked.
    accepted: bool,
    /// A fresh session was denied, and nothing has worked since: everybody is locked out.
    locked_out: bool,
    /// Denied by a session that had just been opened: no code will help.
    hopeless: HashSet<Scope>,
    /// Denied by the generation before when it was no longer fresh.
    denied_before: HashSet<Area>,
    /// Denied like that, and allowed by the next session: these wear out before the session.
    age_limited: HashSet<Area>,
}

/// What to make of a 403.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The session has worn out.
    Renew,
    /// The policy means it.
    Real,
    /// Send this again with the same session: if it works, the denial is real.
    Ask(Scope),
}

impl Evidence {
    /// A request of this scope worked.
    pub(crate) fn worked(&mut self, generation: Generation, scope: &Scope) {
        if generation < self.generation {
            return;
        }
        self.turn_to(generation);
        let area = scope.area();
        self.locked_out = false;
        self.hopeless.remove(scope);
        if self.denied_before.contains(&area) {
            make_room(self.age_limited.len(), || self.age_limited.clear());
            self.age_limited.insert(area.clone());
        }
        if self.allowed.get(&area) != Some(&scope.key) {
            make_room(self.allowed.len(), || self.allowed.clear());
            self.allowed.insert(area, scope.key.clone());
        }
        if scope.action.is_harmless() && self.witness.as_ref() != Some(scope) {
            self.witness = Some(scope.clone());
        }
        self.accepted = true;
    }

    /// S3 said 403. `age` is the session's.
    ///
    /// A session that is fresh has not worn out, but may be dead all the same (revoked, or of a
    /// store whose sessions live for seconds), so a witness is asked where an old one's word
    /// would be enough.
    pub(crate) fn denied(&self, generation: Generation, age: Duration, scope: &Scope) -> Verdict {
        if self.hopeless.contains(scope) || self.locked_out {
            return Verdict::Real;
        }
        let is_fresh = age < FRESH;
        let without_witness = if is_fresh {
            Verdict::Real
        } else {
            Verdict::Renew
        };
        if generation != self.generation {
            return without_witness;
        }
        let area = scope.area();
        if let Some(key) = self.allowed.get(&area) {
            return match is_fresh {
                true if !scope.action.is_harmless() => {
                    self.witness.clone().map_or(without_witness, Verdict::Ask)
                }
                true => Verdict::Ask(Scope {
                    action: scope.action,
                    key: key.clone(),
                }),
                // The key itself was allowed: it is the session that is not what it was.
                false if *key == scope.key || !scope.action.is_harmless() => Verdict::Renew,
                // Another one was, and is asked again: one key of many may be closed.
                false => Verdict::Ask(Scope {
                    action: scope.action,
                    key: key.clone(),
                }),
            };
        }
        if self.age_limited.contains(&area) && !is_fresh {
            return Verdict::Renew;
        }
        if self.denied.contains(&area) {
            return Verdict::Real;
        }
        self.witness.clone().map_or(without_witness, Verdict::Ask)
    }

    /// Something harmless that works in another area, to find out whether a session that has worn
    /// out for this scope has done so for all.
    pub(crate) fn elsewhere(&self, generation: Generation, scope: &Scope) -> Option<Scope> {
        if generation != self.generation {
            return None;
        }
        let here = scope.area();
        let other = self
            .allowed
            .iter()
            .find(|((action, prefix), _)| action.is_harmless() && *prefix != here.1);
        other.map(|((action, _), key)| Scope {
            action: *action,
            key: key.clone(),
        })
    }

    /// A session wears out for this scope before it does for others.
    pub(crate) fn limit(&mut self, scope: &Scope) {
        make_room(self.age_limited.len(), || self.age_limited.clear());
        self.age_limited.insert(scope.area());
    }

    /// The denial was found to be real. Returns whether it is the first in its area.
    pub(crate) fn settle(&mut self, generation: Generation, age: Duration, scope: &Scope) -> bool {
        if generation < self.generation {
            return false;
        }
        self.turn_to(generation);
        if age < FRESH {
            make_room(self.hopeless.len(), || self.hopeless.clear());
            self.hopeless.insert(scope.clone());
            self.locked_out |= !self.accepted;
        } else {
            make_room(self.denied.len(), || self.denied.clear());
            self.denied.insert(scope.area());
        }
        make_room(self.told.len(), || self.told.clear());
        self.told.insert(scope.area())
    }

    /// Whether S3 has accepted anything of this generation.
    pub(crate) fn is_accepted(&self, generation: Generation) -> bool {
        self.generation == generation && self.accepted
    }

    fn turn_to(&mut self, generation: Generation) {
        if generation != self.generation {
            self.generation = generation;
            self.allowed.clear();
            self.told.clear();
            self.denied_before = std::mem::take(&mut self.denied);
            self.witness = None;
            self.accepted = false;
        }
    }
}

/// Starts over rather than growing for ever; forgetting costs one request, not an answer.
fn make_room(length: usize, clear: impl FnOnce()) {
    if length >= REMEMBERED {
        clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Duration = Duration::from_secs(1800);

    fn read(key: &str) -> Scope {
        Scope {
            action: Action::Read,
            key: key.to_owned(),
        }
    }

    fn list(prefix: &str) -> Scope {
        Scope {
            action: Action::List,
            key: prefix.to_owned(),
        }
    }

    #[test]
    fn a_denial_on_a_fresh_session_is_real_and_stays_so() {
        let mut evidence = Evidence::default();
        let (first, second) = (Generation(1), Generation(2));
        let young = Duration::from_secs(5);
        let scope = read("secret/closed");
        assert_eq!(evidence.denied(first, young, &scope), Verdict::Real);
        evidence.worked(first, &read("secret/open"));
        // It may be dead, though: what worked a moment ago is asked, not a person.
        assert_eq!(
            evidence.denied(first, young, &scope),
            Verdict::Ask(read("secret/open"))
        );
        evidence.settle(first, young, &scope);
        // Its neighbour works, and the key itself asks for no code ever again.
        evidence.worked(second, &read("secret/open"));
        assert_eq!(evidence.denied(second, OLD, &scope), Verdict::Real);
    }

    #[test]
    fn what_worked_in_this_generation_and_is_denied_now_has_worn_out() {
        let mut evidence = Evidence::default();
        evidence.worked(Generation(1), &read("docs/a"));
        assert_eq!(
            evidence.denied(Generation(1), OLD, &read("docs/a")),
            Verdict::Renew
        );
        // Its neighbour may be closed for other reasons: what worked is tried again.
        assert_eq!(
            evidence.denied(Generation(1), OLD, &read("docs/b")),
            Verdict::Ask(read("docs/a"))
        );
    }

    #[test]
    fn elsewhere_a_witness_is_asked_once() {
        let mut evidence = Evidence::default();
        let generation = Generation(1);
        evidence.worked(generation, &list(""));
        let denied = read("secret/a");
        assert_eq!(
            evidence.denied(generation, OLD, &denied),
            Verdict::Ask(list(""))
        );
        evidence.settle(generation, OLD, &denied);
        assert_eq!(
            evidence.denied(generation, OLD, &read("secret/b")),
            Verdict::Real
        );
        // Listing is another permission.
        assert_eq!(
            evidence.denied(generation, OLD, &list("secret/")),
            Verdict::Ask(list(""))
        );
    }

    #[test]
    fn a_prefix_that_a_new_code_opened_is_age_limited() {
        let mut evidence = Evidence::default();
        evidence.worked(Generation(1), &list(""));
        evidence.settle(Generation(1), OLD, &read("tax/a"));
        evidence.worked(Generation(2), &read("tax/a"));
        evidence.worked(Generation(3), &list(""));
        assert_eq!(
            evidence.denied(Generation(3), OLD, &read("tax/a")),
            Verdict::Renew
        );
    }

    #[test]
    fn an_old_session_that_never_did_anything_is_renewed() {
        let evidence = Evidence::default();
        assert_eq!(
            evidence.denied(Generation(1), OLD, &read("a")),
            Verdict::Renew
        );
    }
}
