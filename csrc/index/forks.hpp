// Indexes in a process that forks: the child gets each whole, with locks that nobody holds.
#pragma once

namespace mrl {

class Index;

// An index must be registered as long as it is there. A fork waits until no write is going on in
// any of them; searches may go on.
void register_index(Index* index);
void unregister_index(Index* index);

}  // namespace mrl
