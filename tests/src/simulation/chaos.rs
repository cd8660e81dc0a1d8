//! Faults while the storm lasts, and the calm after it: everything is repaired, and has to heal.

use sheaf_cluster::{Event, Pointer};

use super::agenda::{Happening, MS, Mend, Owner, SECOND};
use super::character::Fault;
use super::worker::Machine;
use super::world::World;

/// Worker machines at most.
const MAX_MACHINES: usize = 9;

impl World {
    pub fn strike(&mut self) {
        if self.is_calm {
            return;
        }
        let at = self.now + 1 + self.chaos.below(2 * self.character.every);
        self.agenda.push(at, Owner::Nature, Happening::Strike);
        let Some(fault) = self.character.clone().fault(&mut self.chaos) else { return };
        if self.inject(fault) {
            self.counts.fault(fault.name());
            note!(self, "fault: {}", fault.name());
        }
    }

    /// A fault, if there is something for it to hit.
    fn inject(&mut self, fault: Fault) -> bool {
        match fault {
            Fault::KillCoordinator => return self.crash_coordinator(),
            Fault::StopCoordinator => return self.stop_coordinator(),
            Fault::JumpForward => self.coordinator.skew += self.chaos.between(100, 30_000) as i64,
            Fault::JumpBack => self.coordinator.skew -= self.chaos.between(100, 30_000) as i64,
            Fault::SlowDisk | Fault::FullDisk => self.ail_disk(fault == Fault::FullDisk),
            Fault::DamageCheckpoint => return self.damage_checkpoint(),
            Fault::AddWorker => return self.add_worker(),
            Fault::KillAllWorkers => {
                let up = self.machines_up();
                up.iter().for_each(|machine| self.lose_worker(*machine, false));
                return !up.is_empty();
            }
            _ => {
                let up = self.machines_up();
                let Some(machine) = self.chaos.pick(&up) else { return false };
                return self.inject_into(machine, fault);
            }
        }
        true
    }

    fn inject_into(&mut self, machine: usize, fault: Fault) -> bool {
        match fault {
            Fault::KillWorker => self.lose_worker(machine, false),
            Fault::PowerOff => self.lose_worker(machine, true),
            Fault::StopWorker => return self.stop_worker(machine),
            Fault::SlowWorker => {
                self.machines[machine].slowness = self.chaos.between(3, 12);
                self.mend_later(2 * SECOND, 20 * SECOND, Mend::Quick(machine));
            }
            Fault::SpillFull => {
                self.machines[machine].spill_full = true;
                self.mend_later(SECOND, 8 * SECOND, Mend::Spill(machine));
            }
            Fault::DrainWorker => {
                self.drain_worker(machine);
                if !self.chaos.chance(self.character.stay_away) {
                    self.mend_later(SECOND, 10 * SECOND, Mend::Worker(machine));
                }
            }
            Fault::DrainByAdmin => return self.drain_by_admin(machine),
            Fault::CutBoth | Fault::CutUp | Fault::CutDown => {
                let cut = self.cut(machine, fault != Fault::CutDown, fault != Fault::CutUp);
                self.mend_later(200 * MS, 25 * SECOND, Mend::Path(machine, cut));
            }
            Fault::ResetConnection => match self.machines[machine].connection() {
                Some(connection) => self.reset(connection),
                None => return false,
            },
            _ => return false,
        }
        true
    }

    fn mend_later(&mut self, low: u64, high: u64, mend: Mend) {
        let at = self.now + self.chaos.between(low, high);
        self.agenda.push(at, Owner::Nature, Happening::Mend(mend));
    }

    fn machines_up(&self) -> Vec<usize> {
        (0..self.machines.len()).filter(|machine| self.machines[*machine].is_up()).collect()
    }

    fn lose_worker(&mut self, machine: usize, silent: bool) {
        self.kill_worker(machine, silent);
        if !self.chaos.chance(self.character.stay_away) {
            self.mend_later(200 * MS, 4 * SECOND, Mend::Worker(machine));
        }
    }

    fn stop_worker(&mut self, machine: usize) -> bool {
        let place = &mut self.machines[machine];
        if place.backlog.is_some() {
            return false;
        }
        place.backlog = Some(Vec::new());
        let incarnation = place.incarnation;
        self.mend_later(200 * MS, 25 * SECOND, Mend::GoOn(machine, incarnation));
        true
    }

    fn drain_by_admin(&mut self, machine: usize) -> bool {
        let id = self.machines[machine].connection().and_then(|number| self.network.connections.get(&number)?.id);
        let Some(worker) = id.filter(|_| self.coordinator.serving().is_some() && self.coordinator.backlog.is_none()) else {
            return false;
        };
        self.tell_engine(Event::DrainRequested { worker }, None);
        if !self.chaos.chance(self.character.stay_away) {
            self.mend_later(5 * SECOND, 15 * SECOND, Mend::Worker(machine));
        }
        true
    }

    fn add_worker(&mut self) -> bool {
        if self.machines.len() >= MAX_MACHINES {
            return false;
        }
        let (threads, drift) = (self.chaos.between(1, 4) as u32, self.chaos.between(700, 1300));
        self.machines.push(Machine::new(threads, drift));
        self.boot_worker(self.machines.len() - 1);
        true
    }

    pub fn crash_coordinator(&mut self) -> bool {
        if self.coordinator.process.is_none() {
            return false;
        }
        note!(self, "the coordinator is killed");
        let silent = self.chaos.chance(100);
        self.kill_coordinator(silent);
        self.counts.coordinator_restarts += 1;
        self.mend_later(200 * MS, 4 * SECOND, Mend::Coordinator);
        true
    }

    fn stop_coordinator(&mut self) -> bool {
        if self.coordinator.process.is_none() || self.coordinator.backlog.is_some() {
            return false;
        }
        self.coordinator.backlog = Some(Vec::new());
        let incarnation = self.coordinator.incarnation;
        self.mend_later(200 * MS, 15 * SECOND, Mend::CoordinatorGoesOn(incarnation));
        true
    }

    fn ail_disk(&mut self, full: bool) {
        if full {
            self.coordinator.disk.full = true;
        } else {
            self.coordinator.disk.slow = self.chaos.between(20, 400);
        }
        self.mend_later(SECOND, 8 * SECOND, Mend::Disk);
    }

    fn damage_checkpoint(&mut self) -> bool {
        let Some(leader) = &self.coordinator.process else { return false };
        let mut objects = leader.durable.jobs.values().filter_map(|record| match &record.checkpoint.as_ref()?.state {
            Pointer::Object { hash, .. } => Some(hash.clone()),
            Pointer::Inline(_) => None,
        });
        let Some(hash) = objects.next_back() else { return false };
        if self.chaos.chance(500) {
            self.store.damage(&hash);
        } else {
            self.store.remove(&hash);
        }
        true
    }

    pub fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Worker(machine) => {
                // A machine whose worker is on its way out gets its new one afterwards.
                if self.machines[machine].is_up() && !self.is_calm {
                    return;
                }
                self.boot_worker(machine);
            }
            Mend::Coordinator => self.boot_coordinator(),
            Mend::GoOn(machine, incarnation) => self.worker_goes_on(machine, incarnation),
            Mend::CoordinatorGoesOn(incarnation) => self.coordinator_goes_on(incarnation),
            Mend::Path(machine, cut) => self.mend_path(machine, cut),
            Mend::Quick(machine) => self.machines[machine].slowness = 1,
            Mend::Disk => (self.coordinator.disk.full, self.coordinator.disk.slow) = (false, 1),
            Mend::Spill(machine) => self.machines[machine].spill_full = false,
        }
    }

    fn worker_goes_on(&mut self, machine: usize, incarnation: u32) {
        let place = &mut self.machines[machine];
        if place.incarnation == incarnation {
            let backlog = place.backlog.take().unwrap_or_default();
            backlog.into_iter().for_each(|(owner, what)| self.agenda.push(self.now, owner, what));
        }
    }

    fn coordinator_goes_on(&mut self, incarnation: u32) {
        if self.coordinator.incarnation == incarnation {
            let backlog = self.coordinator.backlog.take().unwrap_or_default();
            backlog.into_iter().for_each(|(owner, what)| self.agenda.push(self.now, owner, what));
        }
    }

    /// The storm is over: all is repaired at once.
    pub fn calm_down(&mut self) {
        note!(self, "the storm is over");
        self.is_calm = true;
        self.mend(Mend::Disk);
        for machine in 0..self.machines.len() {
            let path = &self.machines[machine].path;
            let cuts: Vec<u64> = path.up.into_iter().chain(path.down).collect();
            cuts.into_iter().for_each(|cut| self.mend_path(machine, cut));
            self.mend(Mend::Quick(machine));
            self.mend(Mend::Spill(machine));
            self.worker_goes_on(machine, self.machines[machine].incarnation);
            if !self.machines[machine].is_up() {
                self.mend_later(0, SECOND, Mend::Worker(machine));
            }
        }
        self.coordinator_goes_on(self.coordinator.incarnation);
        if self.coordinator.process.is_none() {
            self.mend_later(0, SECOND, Mend::Coordinator);
        }
    }
}
