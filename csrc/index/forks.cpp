#include "forks.hpp"

#include <pthread.h>

#include <mutex>
#include <vector>

#include "index.hpp"

namespace mrl {
namespace {

struct Registered {
    std::mutex mutex;
    std::vector<Index*> indexes;
};

Registered& registered() {
    static Registered* all = new Registered;  // never destroyed: threads may outlive main()
    return *all;
}

void before_fork() {
    registered().mutex.lock();
    for (Index* index : registered().indexes) index->hold_writes();
}

void in_parent() {
    for (Index* index : registered().indexes) index->let_writes();
    registered().mutex.unlock();
}

void in_child() {
    for (Index* index : registered().indexes) index->renew_locks();
    registered().mutex.unlock();
}

}  // namespace

void register_index(Index* index) {
    static const int once = pthread_atfork(before_fork, in_parent, in_child);
    static_cast<void>(once);
    const std::lock_guard lock(registered().mutex);
    registered().indexes.push_back(index);
}

void unregister_index(Index* index) {
    const std::lock_guard lock(registered().mutex);
    std::erase(registered().indexes, index);
}

}  // namespace mrl
