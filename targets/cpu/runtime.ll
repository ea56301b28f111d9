; The barrier that kernels meet at. Two counters, each on its own cache line:
;   [0]  threads that have arrived in this generation
;   [64] generations that have ended
; The last to arrive resets the first counter and then ends the generation; the others watch the second, first in a spin that
; tells the CPU so (@relax), then giving their time slice away, so that more threads than cores still make progress.

declare i32 @sched_yield()
declare void @relax()

define void @barrier(ptr %state, i64 %threads) {
entry:
  %alone = icmp sle i64 %threads, 1
  br i1 %alone, label %done, label %arrive

arrive:
  %generation = getelementptr i8, ptr %state, i64 64
  ; Read before arriving: afterwards the generation may end at any moment.
  %before = load atomic i64, ptr %generation monotonic, align 64
  %earlier = atomicrmw add ptr %state, i64 1 acq_rel, align 64
  %arrived = add i64 %earlier, 1
  %last = icmp eq i64 %arrived, %threads
  br i1 %last, label %release, label %spin

release:
  store atomic i64 0, ptr %state monotonic, align 64
  %next = add i64 %before, 1
  store atomic i64 %next, ptr %generation release, align 64
  br label %done

spin:
  %turns = phi i64 [ 0, %arrive ], [ %more, %again ]
  %now = load atomic i64, ptr %generation acquire, align 64
  %waiting = icmp eq i64 %now, %before
  br i1 %waiting, label %wait, label %done

wait:
  %patient = icmp slt i64 %turns, 1024
  br i1 %patient, label %pause, label %yield

pause:
  call void @relax()
  br label %again

yield:
  %ignored = call i32 @sched_yield()
  br label %again

again:
  %more = add i64 %turns, 1
  br label %spin

done:
  ret void
}
