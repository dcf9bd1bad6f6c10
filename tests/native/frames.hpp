// A host of pages (search/page_host.h) as a server's buffers are one, over an index in memory. A
// frame ends where memory cannot be read.
//
//   steady   every page is in its frame
//   copied   no page is ever read in place
//   moving   frames are overwritten at random between the two looks, with foreign bytes, with
//            another page or with half of one, and pages leave their frames
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "check.hpp"
#include "disk.hpp"
#include "postgres/engine.h"

namespace disk {

enum class Kind { steady, copied, moving };

// Frames as a server's buffers: fewer than there are pages, each holding any page for a while.
class Frames {
  public:
    Frames(const Disk& disk, Kind kind, std::mt19937& random)
        : disk_(disk), kind_(kind), random_(random) {
        std::size_t all = 0;
        for (int s = 0; s < MRL_SECTIONS; ++s) {
            where_[s].resize(disk.pages[s].size());
            all += disk.pages[s].size();
        }
        n_ = std::max<std::size_t>(kind == Kind::moving ? all / 3 : all, 2 * MRL_PAGE_BYTES / 32);
        memory_ = std::make_unique<Guarded>(n_ * MRL_PAGE_BYTES);
        held_.resize(n_ + 1);
    }

    MrlPageHost host() {
        return {this, memory_->as<std::uint8_t>(), kind_ == Kind::copied ? nullptr : find, unmoved};
    }

    // Runs a search to its end as the extension does.
    void run(MrlReader* reader) {
        MrlAnswer answer = MRL_READ;
        MrlStatus status;
        int attempts = 0;
        while ((status = mrl_search_step(reader, answer)) == MRL_PAGES || status == MRL_PAUSED) {
            const MrlPageRequest* request = mrl_search_request(reader);
            if (status == MRL_PAUSED) {
                answer = MRL_READ;
                ++paused;
            } else if (request->copies != nullptr) {
                for (std::uint32_t i = 0; i < request->n; ++i) {
                    CHECK(request->pages[i] < disk_.pages[request->section].size());
                    CHECK(request->offsets[i] + request->bytes <= MRL_PAGE_BYTES);
                    std::memcpy(request->copies + std::size_t{i} * request->bytes,
                                disk_.pages[request->section][request->pages[i]].data() +
                                    request->offsets[i],
                                request->bytes);
                }
                answer = MRL_COPIED;
                attempts = 0;
                ++copied;
            } else if (++attempts > 3) {
                answer = MRL_UNSTEADY;
            } else {
                for (std::uint32_t i = 0; i < request->n; ++i)
                    load(request->section, request->pages[i]);
                answer = MRL_READ;
            }
        }
        CHECK(status == MRL_DONE);
    }

    std::size_t moved = 0, copied = 0, paused = 0;

  private:
    struct Held {
        int section = -1;
        std::uint32_t page = 0;
    };

    void load(int section, std::uint32_t page) {
        CHECK(page < where_[section].size());
        if (where_[section][page] != 0) return;
        next_ = next_ % n_ + 1;
        drop(next_);
        held_[next_] = {section, page};
        where_[section][page] = static_cast<std::uint32_t>(next_);
        std::memcpy(frame(next_), disk_.pages[section][page].data(), MRL_PAGE_BYTES);
    }

    void drop(std::size_t frame) {
        const Held held = held_[frame];
        if (held.section >= 0) where_[held.section][held.page] = 0;
        held_[frame].section = -1;
    }

    std::uint8_t* frame(std::size_t number) {
        return memory_->as<std::uint8_t>() + (number - 1) * MRL_PAGE_BYTES;
    }

    // Another page takes the frame: what is read there from now on is anything.
    void overwrite(std::size_t number) {
        drop(number);
        ++moved;
        std::uint8_t* bytes = frame(number);
        const auto kind = random_() % 3;
        const std::size_t from = kind == 1 ? MRL_PAGE_BYTES / 2 : 0;
        for (std::size_t i = from; i < MRL_PAGE_BYTES && kind != 2; i += 4) {
            const auto word = static_cast<std::uint32_t>(random_());
            std::memcpy(bytes + i, &word, sizeof word);
        }
        if (kind == 2) std::memset(bytes, 0xff, MRL_PAGE_BYTES);
    }

    static std::uint32_t find(void* self, int section, const std::uint32_t* pages, std::uint32_t n,
                              std::uint32_t* frames) {
        auto& me = *static_cast<Frames*>(self);
        std::uint32_t missing = 0;
        for (std::uint32_t i = 0; i < n; ++i) {
            CHECK(pages[i] < me.where_[section].size());
            frames[i] = me.where_[section][pages[i]];
            missing += frames[i] == 0 ? 1 : 0;
        }
        if (me.kind_ == Kind::moving && missing == 0 && me.random_() % 3 == 0)
            me.overwrite(frames[me.random_() % n]);
        return missing;
    }

    static bool unmoved(void* self, int section, const std::uint32_t* pages, std::uint32_t n,
                        const std::uint32_t* frames) {
        auto& me = *static_cast<Frames*>(self);
        for (std::uint32_t i = 0; i < n; ++i)
            if (me.where_[section][pages[i]] != frames[i]) return false;
        return me.kind_ != Kind::moving || me.random_() % 16 != 0;
    }

    const Disk& disk_;
    Kind kind_;
    std::mt19937& random_;
    std::size_t n_ = 0, next_ = 0;
    std::unique_ptr<Guarded> memory_;
    std::vector<std::uint32_t> where_[MRL_SECTIONS];  // frame of each page, or 0
    std::vector<Held> held_;
};

}  // namespace disk
