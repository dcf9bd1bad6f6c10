// Linking rows that wait, for engine.h.
#include <memory>
#include <vector>

#include "../graph/batch_link.hpp"
#include "engine_reader.hpp"

struct MrlLinker {
    BatchLinker batch;
    std::uint32_t linked;
    std::vector<std::uint32_t> targets;

    MrlLinker(const MrlReader& reader, const MrlMeta& meta)
        : batch(reader.lines, meta.longest_square), linked(meta.linked) {}
};

extern "C" {

MrlStatus mrl_link_begin(const MrlReader* reader, const MrlMeta* meta, MrlLinker** linker) {
    return guarded([&] { *linker = std::make_unique<MrlLinker>(*reader, *meta).release(); });
}

void mrl_link_free(MrlLinker* linker) { std::unique_ptr<MrlLinker>{linker}; }

MrlStatus mrl_link_add(MrlLinker* linker, uint32_t slot, const MrlReader* reader) {
    return guarded([&] {
        std::vector<std::uint32_t> near;
        for (const PagedHit& hit : reader->search.hits()) near.push_back(hit.slot);
        linker->batch.add(slot, near);
    });
}

MrlStatus mrl_link_missing(MrlLinker* linker, const uint32_t** slots, size_t* n) {
    return guarded([&] {
        const std::vector<std::uint32_t>& missing = linker->batch.missing();
        *slots = missing.data();
        *n = missing.size();
    });
}

void mrl_link_give_line(MrlLinker* linker, uint32_t slot, const uint8_t line[MRL_ITEM_BYTES]) {
    linker->batch.give_line(slot, line);
}

MrlStatus mrl_link_prune(MrlLinker* linker, const uint32_t** slots, size_t* n) {
    return guarded([&] {
        linker->batch.prune();
        linker->targets = linker->batch.targets();
        *slots = linker->targets.data();
        *n = linker->targets.size();
    });
}

MrlStatus mrl_link_give_links(MrlLinker* linker, uint32_t slot, const uint32_t* links) {
    return guarded([&] { linker->batch.give_links(slot, links, linker->linked); });
}

MrlStatus mrl_link_end(MrlLinker* linker, size_t* changes) {
    return guarded([&] {
        linker->batch.link_back();
        *changes = linker->batch.changes().size();
    });
}

const uint32_t* mrl_link_change(const MrlLinker* linker, size_t i, uint32_t* slot) {
    const BatchLinker::Change& change = linker->batch.changes()[i];
    *slot = change.slot;
    return change.links.data();
}

}  // extern "C"
