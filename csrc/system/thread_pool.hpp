// Threads of our own: a wheel with OpenMP in it crashes beside another one, and hangs after fork.
//
// One pool for the process, started at the first call that wants more than one thread and grown to
// the most that was ever wanted. A child made by fork() starts with none and makes its own when it
// needs them: the parent's threads do not exist there.
#pragma once

#include <cstddef>
#include <functional>

namespace mrl {

// Runs task(item, worker) for every item in [0, items) on up to `threads` threads, the caller's
// among them, and returns when all are done. worker < threads names the thread within this call.
// The first exception is thrown again here, after the others have stopped. Calls from several
// threads share the pool; a call from inside a task runs alone.
void parallel_for(std::size_t threads, std::size_t items,
                  const std::function<void(std::size_t item, std::size_t worker)>& task);

// The CPUs that this process may use.
std::size_t available_threads();

}  // namespace mrl
