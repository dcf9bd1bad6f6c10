#include "thread_pool.hpp"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace mrl {
namespace {

struct Job {
    const std::function<void(std::size_t, std::size_t)>& task;
    std::size_t items;
    std::atomic<std::size_t> next_item{0};
    std::atomic<std::size_t> next_worker{1};  // 0 is the caller
    std::size_t helping = 0;                  // threads inside, guarded by the pool's mutex
    std::exception_ptr error{};               // the first, guarded by the pool's mutex
};

class Pool {
  public:
    void run(Job& job, std::size_t threads) {
        const std::size_t helpers = threads - 1;
        {
            const std::lock_guard lock(mutex_);
            while (threads_.size() < helpers) threads_.emplace_back([this] { serve(); });
            for (std::size_t i = 0; i < helpers; ++i) waiting_.push_back(&job);
        }
        wake_.notify_all();
        work(job, 0);
        std::unique_lock lock(mutex_);
        waiting_.erase(std::remove(waiting_.begin(), waiting_.end(), &job),
                       waiting_.end());  // helpers that came too late
        done_.wait(lock, [&job] { return job.helping == 0; });
        if (job.error) std::rethrow_exception(job.error);
    }

  private:
    void work(Job& job, std::size_t worker) {
        inside_task = true;
        try {
            for (std::size_t item = job.next_item++; item < job.items; item = job.next_item++)
                job.task(item, worker);
        } catch (...) {
            job.next_item = job.items;
            const std::lock_guard lock(mutex_);
            if (!job.error) job.error = std::current_exception();
        }
        inside_task = false;
    }

    void serve() {
        std::unique_lock lock(mutex_);
        while (true) {
            wake_.wait(lock, [this] { return !waiting_.empty(); });
            Job& job = *waiting_.front();
            waiting_.pop_front();
            ++job.helping;
            lock.unlock();
            work(job, job.next_worker++);
            lock.lock();
            if (--job.helping == 0) done_.notify_all();
        }
    }

  public:
    static thread_local bool inside_task;

  private:
    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::deque<Job*> waiting_;
    std::vector<std::thread> threads_;
};

thread_local bool Pool::inside_task = false;

std::mutex making;
Pool* pool = nullptr;  // never destroyed: a thread may still search while the process ends

// In the child the parent's threads are gone and its locks may be held by them: the pool is left
// behind, whole.
void forget_in_child() {
    new (&making) std::mutex;
    pool = nullptr;
    Pool::inside_task = false;
}

Pool& the_pool() {
    const std::lock_guard lock(making);
    static const int registered = pthread_atfork(nullptr, nullptr, forget_in_child);
    static_cast<void>(registered);
    if (pool == nullptr) pool = new Pool;
    return *pool;
}

}  // namespace

void parallel_for(std::size_t threads, std::size_t items,
                  const std::function<void(std::size_t, std::size_t)>& task) {
    threads = std::min(threads, items);
    if (threads <= 1 || Pool::inside_task) {
        for (std::size_t item = 0; item < items; ++item) task(item, 0);
        return;
    }
    Job job{task, items};
    the_pool().run(job, threads);
}

std::size_t available_threads() {
#if defined(__linux__)  // a container or taskset may allow some only
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return std::max<std::size_t>(1, static_cast<std::size_t>(CPU_COUNT(&set)));
#endif
    return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace mrl
