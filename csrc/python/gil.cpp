#include "gil.hpp"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "../system/waits.hpp"

namespace mrl::python {
namespace {

std::atomic<bool> ended{false};
std::atomic<std::thread::id> last;  // the thread that ended the others
std::atomic<int> entering{0};       // threads that have passed the question, and wait for the lock

void none_in_child() { entering = 0; }  // the parent's threads are not in a forked child

// Whoever is counted before end() is waited for there; whoever comes later sees it.
template <class Take>
void enter(Take&& take) {
    ++entering;
    if (ended && last.load() != std::this_thread::get_id()) {
        --entering;
        while (true) pause();
    }
    take();
    --entering;
}

void end() {
    last = std::this_thread::get_id();
    ended = true;
    PyThreadState* const state = PyEval_SaveThread();
    while (entering != 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
    PyEval_RestoreThread(state);
}

}  // namespace

WithoutGil::~WithoutGil() {
    const std::uint64_t since = measures_waits() ? nanoseconds_of(CLOCK_MONOTONIC) : 0;
    enter([this] { PyEval_RestoreThread(state_); });
    if (since != 0) waited.for_python += nanoseconds_of(CLOCK_MONOTONIC) - since;
}

WithGil::WithGil() {
    enter([this] { state_ = PyGILState_Ensure(); });
}

void end_at_exit() {
    pthread_atfork(nullptr, nullptr, none_in_child);
    pybind11::module_::import("atexit").attr("register")(
        pybind11::cpp_function(&end, "No other thread comes back from C++ to Python any more."));
}

}  // namespace mrl::python
