package main

// deciding are mutants of how one relay decides and the others follow: C2 to C9.
var deciding = []mutant{
	{
		rule: "C2", name: "a record that is gone stays with those who follow",
		file:    "internal/keep/replicated/replica.go",
		text:    "\tc.pending[id] = nil\n",
		instead: "\t_ = id\n",
		by:      "TestThreeCopies",
	},
	{
		rule: "C2", name: "everything is read as it is now, and not at one revision",
		file:    "internal/keep/replicated/replica.go",
		text:    "clientv3.WithRange(end), clientv3.WithRev(at), clientv3.WithLimit(pageOf)",
		instead: "clientv3.WithRange(end), clientv3.WithLimit(pageOf)",
		by:      "TestReadAtOneRevision",
	},
	{
		rule: "C2", name: "what is left of deleted groups is not installed",
		file:    "internal/groupstore/install.go",
		text:    "\tin.applyTraces()\n",
		instead: "",
		by:      "TestFollow",
	},
	{
		rule: "C3", name: "what is left of deleted groups is not told",
		file:    "internal/groupstore/follow.go",
		text:    "\t\tfs.note(TraceRecord, nameOfTrace(src.name, key))\n",
		instead: "\t\t_ = nameOfTrace(src.name, key)\n",
		by:      "TestFollow",
	},
	{
		rule: "C3", name: "what a change makes of other groups is not told",
		file:    "internal/groupstore/commit.go",
		text:    "\ts.feeds.noteGroup(g, g.state, next)\n",
		instead: "\tif g.state == nil || next == nil || g.state.version != next.version {\n\t\ts.feeds.noteGroup(g, g.state, next)\n\t}\n",
		by:      "TestTellsWhatHasChanged TestFollow",
	},
	{
		rule: "C4", name: "the fence is dropped: another leader does not matter",
		file:    "internal/keep/replicated/writer.go",
		text:    "\t\tclientv3.Compare(clientv3.ModRevision(w.keys.leader()), \"=\", w.copy.leader.Term),\n",
		instead: "",
		by:      "TestFence",
	},
	{
		rule: "C4", name: "the fence is dropped: another position does not matter",
		file:    "internal/keep/replicated/writer.go",
		text:    "\t\tclientv3.Compare(clientv3.ModRevision(w.keys.position()), \"=\", w.copy.position),\n",
		instead: "",
		by:      "TestFence",
	},
	{
		rule: "C4", name: "a part of an outcome is installed before the last one",
		file:    "internal/keep/replicated/replica.go",
		text:    "if pos != nil && !pos.GetMore() {",
		instead: "if pos != nil {",
		by:      "TestUnfinishedOutcome",
	},
	{
		rule: "C4", name: "a push is answered at the first part of its outcome",
		file:    "internal/keep/replicated/writer.go",
		text:    "\t\t\tw.copy.progress.reach(w.copy.revision, 0)\n",
		instead: "\t\t\tw.copy.progress.reach(w.copy.revision, 0)\n\t\t\tw.term.commit(d.Position)\n",
		by:      "TestUnfinishedOutcome",
	},
	{
		rule: "C4", name: "the next leader leaves records of an outcome that was not completed",
		file:    "internal/keep/replicated/lead.go",
		text:    "k.store.FollowOn(k.copy.unfinished())",
		instead: "k.store.FollowOn(nil)",
		by:      "TestUnfinishedOutcome",
	},
	{
		rule: "C4", name: "a transaction without an answer is not asked for again",
		file:    "internal/keep/replicated/writer.go",
		text:    "\t\tcase err != nil:\n\t\t\tmonotonic",
		instead: "\t\tcase err != nil:\n\t\t\treturn err\n\t\t\tmonotonic",
		by:      "TestLostAnswer",
	},
	{
		rule: "C4", name: "a transaction that was committed before is taken for another one's",
		file:    "internal/keep/replicated/writer.go",
		text:    "err == nil && string(pos.GetBatch()) == string(batch)",
		instead: "err == nil && string(pos.GetBatch()) != string(batch)",
		by:      "TestLostAnswer",
	},
	{
		rule: "C4", name: "a transaction has more operations than etcd takes",
		file:    "internal/keep/replicated/writer.go",
		text:    " || len(ops) == w.limits.batchOps())",
		instead: ")",
		by:      "TestRecordTooLarge",
	},
	{
		rule: "C4", name: "a wipe of one record is not installed",
		file:    "internal/groupstore/wipes.go",
		text:    "{ return in.wiped > in.store.feeds.through }",
		instead: "{ return in.wiped > in.store.position }",
		by:      "TestShortWipes",
	},
	{
		rule: "C4", name: "a record is taken that is not what was written",
		file:    "internal/keep/replicated/values.go",
		text:    "binary.BigEndian.Uint32(rest) != sealOf(key, value)",
		instead: "len(rest) > len(value)",
		by:      "TestSealedValues",
	},
	{
		rule: "C4", name: "a member starts on a database that is damaged",
		file:    "internal/cluster/engine/engine.go",
		text:    "if err := cfg.checkDatabase(); err != nil {",
		instead: "if err := ctx.Err(); err != nil {",
		by:      "TestDamagedMemberDoesNotStart",
	},
	{
		rule: "C5", name: "what a group has already does not count to its size",
		file:    "internal/groupstore/recordlimits.go",
		text:    "sizeOfParts(e.parts)+sizeOfParts(x.partsLeft()) <= l.Bytes",
		instead: "sizeOfParts(e.parts) <= l.Bytes",
		by:      "TestRecordLimits",
	},
	{
		rule: "C6", name: "a leader is replaced that has written meanwhile",
		file:    "internal/keep/replicated/run.go",
		text:    "\t\tclientv3.Compare(clientv3.ModRevision(k.keys.position()), \"=\", k.copy.position),\n",
		instead: "",
		by:      "TestSlowToHear",
	},
	{
		rule: "C6", name: "a leader that is heard over the link keeps its place for ever",
		file:    "internal/keep/replicated/run.go",
		text:    "k.cfg.Heard == nil || quiet >= linkCounts*k.cfg.Silence",
		instead: "k.cfg.Heard == nil",
		by:      "TestHeardOverTheLink",
	},
	{
		rule: "C6", name: "a session whose key is gone is not registered again",
		file:    "internal/cluster/location/watch.go",
		text:    "\t\ts.epoch = 0 // the lease is lost",
		instead: "\t\t// the lease is lost",
		by:      "TestALostLease",
	},
	{
		rule: "C7", name: "a push is acknowledged before it is committed",
		file:    "internal/keep/replicated/keep.go",
		text:    "return func(ctx context.Context) error { return t.wait(ctx, position) }, nil",
		instead: "return func(context.Context) error { return nil }, nil",
		by:      "TestUnfinishedOutcome",
	},
	{
		rule: "C7", name: "the relay that was asked does not wait for its own copy",
		file:    "internal/cluster/link/forwarder.go",
		text:    "position > 0 && !f.cfg.Leader().Leads",
		instead: "position > 0 && f.cfg.Leader().Leads",
		by:      "TestOwnCopyHasIt",
	},
	{
		rule: "C7", name: "what may have been decided is told as not taken",
		file:    "internal/cluster/link/queue.go",
		text:    "\t\tif e.sent {\n\t\t\to = inDoubt\n\t\t}\n",
		instead: "\t\t_ = inDoubt\n",
		by:      "TestNotTakenAndInDoubt",
	},
	{
		rule: "C8", name: "what is not committed is shown",
		file:    "internal/groupstore/held.go",
		text:    "\tif !h.on {\n\t\treturn\n\t}\n\tkey",
		instead: "\tif h.on {\n\t\treturn\n\t}\n\tkey",
		by:      "TestShowCommitted",
	},
	{
		rule: "C8", name: "what is not committed is shown of single groups",
		file:    "internal/groupstore/held.go",
		text:    "len(list) > 0 {\n\t\treturn list[0].state",
		instead: "len(list) > 1 {\n\t\treturn list[0].state",
		by:      "TestShowCommitted",
	},
	{
		rule: "C8", name: "the change after the last that is committed is shown as well",
		file:    "internal/groupstore/held.go",
		text:    "list[n].until <= through {",
		instead: "list[n].until <= through+1 {",
		by:      "TestShowCommitted",
	},
	{
		rule: "C8", name: "the leader's store shows what it applies",
		file:    "internal/keep/replicated/keep.go",
		text:    "cfg.Store.ShownAt = k, true, true, k.Now, k.Clock",
		instead: "cfg.Store.ShownAt = k, false, true, k.Now, k.Clock",
		by:      "TestUnfinishedOutcome",
	},
	{
		rule: "C8", name: "a leader that was deposed does not read everything anew",
		file:    "internal/keep/replicated/run.go",
		text:    "return errors.Is(err, errDeposed) || err != nil && !errors.Is(err, errEnded)",
		instead: "return err != nil && !errors.Is(err, errEnded) && !errors.Is(err, errDeposed)",
		by:      "TestFence",
	},
	{
		rule: "C8", name: "a leader decides on while it hands over",
		file:    "internal/keep/replicated/lead.go",
		text:    "\tw.term.shutDown()\n",
		instead: "",
		by:      "TestHandOver",
	},
	{
		rule: "C8", name: "a leader that has handed over takes its place again",
		file:    "internal/keep/replicated/run.go",
		text:    " && k.copy.leader.Term != k.yielded",
		instead: "",
		by:      "TestHandOverWaits",
	},
	{
		rule: "C9", name: "a read that began before is used",
		file: "internal/keep/replicated/read.go",
		text: `		r.next = nil
		r.mu.Unlock()
		wanted := present != nil
		if !wanted {
			present = &round{done: make(chan struct{})}
		}
		began := time.Now()
		if present.revision, present.err = r.ask(ctx); present.err == nil {
`,
		instead: `		wanted := present != nil
		if !wanted {
			present = &round{done: make(chan struct{})}
		}
		r.next = present
		r.mu.Unlock()
		began := time.Now()
		present.revision, present.err = r.ask(ctx)
		r.mu.Lock()
		r.next = nil
		r.mu.Unlock()
		if present.err == nil {
`,
		by: "TestReadsAreShared",
	},
	{
		rule: "C9", name: "a scrape does not wait until the copy is as far as it has heard",
		file:    "internal/keep/replicated/others.go",
		text:    "\treturn k.reaches(ctx, revision)\n",
		instead: "\t_ = revision\n\treturn nil\n",
		by:      "TestSlowToHear",
	},
	{
		rule: "C9", name: "a relay without a majority shows what it has beside one that may have one",
		file:    "internal/keep/replicated/others.go",
		text:    "\t\tcase others.MayDecide:\n\t\t\treturn errCutOff\n\t\tcase !alone:\n",
		instead: "\t\tcase !others.MayDecide && !alone:\n",
		by:      "TestOthers",
	},
	{
		rule: "C9", name: "a relay that was cut off until the others died shows what it has",
		file:    "internal/keep/replicated/others.go",
		text:    "!others.MayDecide && k.reader.staysAlone",
		instead: "k.reader.staysAlone",
		by:      "TestLastOneLeft",
	},
	{
		rule: "C9", name: "a relay that stood still until the others died shows what it has",
		file:    "internal/keep/replicated/read.go",
		text:    "if time.Since(last) > within {",
		instead: "if last.IsZero() {",
		by:      "TestLastOneLeft",
	},
	{
		rule: "C9", name: "a relay without a majority shows less than it has heard of",
		file:    "internal/keep/replicated/others.go",
		text:    "hasRevision >= head && has >= position",
		instead: "hasRevision >= min(head, 0) && has >= position",
		by:      "TestLastOneLeft",
	},
	{
		rule: "C9", name: "a member that is connected counts as dead where its address is refused",
		file:    "internal/cluster/link/others.go",
		text:    "!ok || l.Server.isConnected(member)",
		instead: "!ok",
		by:      "TestOthers",
	},
	{
		rule: "C9", name: "a relay without a majority shows less than others do",
		file:    "internal/keep/replicated/others.go",
		text:    "return k.shows(ctx, others.Position)",
		instead: "return nil",
		by:      "TestOthers",
	},
	{
		rule: "C9", name: "a leader takes the clock back",
		file:    "internal/keep/replicated/clock.go",
		text:    "return time.Unix(0, raise(&c.latest, c.wall().UnixNano()))",
		instead: "return c.wall()",
		by:      "TestClock",
	},
	{
		rule: "C9", name: "the clock that is shown stands still with those who follow",
		file:    "internal/keep/replicated/replica.go",
		text:    "\tc.clock.show(pos.GetAt())\n",
		instead: "",
		by:      "TestLostMajority",
	},
	{
		rule: "C9", name: "the time of a group's push goes back",
		file:    "internal/keep/replicated/keep.go",
		text:    "cfg.Store.ShownAt = k, true, true, k.Now, k.Clock",
		instead: "cfg.Store.ShownAt = k, true, false, k.Now, k.Clock",
		by:      "TestTimesRise",
	},
	{
		rule: "C9", name: "/metrics does not wait for the copy",
		file:    "internal/gather/gather.go",
		text:    "\tif h.cfg.CaughtUp != nil {",
		instead: "\tif h.cfg.CaughtUp == nil {",
		by:      "TestShared",
	},
}
