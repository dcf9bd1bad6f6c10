// csrc for C: what the extension asks of it. Nothing here throws, jumps or calls PostgreSQL; what
// goes wrong is a status and a message.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../search/page_format.h"
#include "../search/page_host.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    MRL_DONE,
    MRL_PAGES,      // a search waits for what mrl_search_request() says
    MRL_PAUSED,     // a search has gone on for a while: whoever wants to stop it may
    MRL_CANCELLED,  // the caller's `stop` said so
    MRL_NO_MEMORY,
    MRL_FAILED,
} MrlStatus;

typedef enum { MRL_COSINE, MRL_INNER_PRODUCT, MRL_L2 } MrlMetric;

// Of the last call that failed.
const char* mrl_engine_message(void);
const char* mrl_engine_simd(void);

void mrl_halves_to_floats(const uint16_t* halves, size_t n, float* floats);
// Whether a vector may be in an index of this metric: a zero vector has no direction.
bool mrl_has_direction(const float* vector, size_t dims);

// Building

typedef struct MrlBuild MrlBuild;
typedef struct {
    MrlMetric metric;
    uint32_t dims;
    uint32_t prefix;  // dims that lines are made from, or 0
    uint32_t threads;
    float recall;  // that the index is to reach: walks are measured; or 0
    // Of an item of INCLUDE columns, its bytes and pieces, which outlive the build; or 0.
    uint32_t included_bytes, n_pieces;
    const struct MrlPiece* pieces;
    bool chooses;  // how far searches walk where nobody says it
} MrlBuildOptions;

// What walks of rising efforts found when they were measured, for rows as queries that are hidden
// from the graph: the mean share of the ten nearest, and what it exceeds at 95 % confidence.
enum { MRL_MOST_EFFORTS = 16 };
typedef struct {
    uint32_t effort;
    float mean, lower;
} MrlEffortRecall;
typedef struct {
    uint32_t queries;  // 0: nothing was measured
    uint32_t n;
    MrlEffortRecall of[MRL_MOST_EFFORTS];
} MrlEvidence;

// How far searches walk where nobody says it: the least effort, MRL_DEFAULT_EFFORT or more, whose
// mean recall was enough (MrlEvidence says of what); where so long a walk costs as much as a look
// at all lines, these. Where these are not enough, an effort by which they are looked at anyway,
// and so many candidates come out.
typedef struct {
    uint32_t queries;  // 0: nothing was measured
    uint32_t effort;
    uint32_t scans;  // 1: all lines
    float recall;    // of it
} MrlChosen;
#define MRL_DEFAULT_EFFORT 64
#define MRL_LINES_A_HOP 20  // that a walk reads, about

// How many candidates a walk of an effort brings out, for few answers.
static inline size_t mrl_keep_of_effort(size_t effort) {
    size_t keep = 10 + effort / 8;
    return keep < 20 ? 20 : keep;
}

// An effort is for ten answers, and the row that asks for its neighbours. What a walk must make
// for more to find as large a share of them; with MRL_KEEP_EACH candidates for each answer. Fitted
// to 200,000 generated rows of 768 dims, 10 to 160 answers, efforts 32 to 180: the recall of more
// answers is that of ten, or up to .02 off.
#define MRL_FEW_ANSWERS 11
#define MRL_KEEP_EACH 3
static inline double mrl_effort_for(double effort, double answers) {
    double more = answers - MRL_FEW_ANSWERS;
    return more <= 0 ? effort : effort * (1 + 0.07 * more);
}

// Called from one thread at a time, not always the same; returns whether to stop.
typedef bool (*MrlProgress)(void* state, double done, double total);

MrlStatus mrl_build_begin(const MrlBuildOptions* options, MrlBuild** build);
void mrl_build_free(MrlBuild* build);
// item: of INCLUDE columns. NULL for all rows where there are none, or pages of them are not
// wanted.
MrlStatus mrl_build_add(MrlBuild* build, const float* vector, const uint16_t tid[3],
                        const uint8_t* item);
// What a build of so many rows takes at its peak, about.
size_t mrl_build_bytes(const MrlBuild* build, size_t rows);
size_t mrl_build_rows(const MrlBuild* build);
MrlStatus mrl_build_graph(MrlBuild* build, MrlProgress progress, void* state);
// Puts the rows, in the order in which they were added, in slots that rise, of n in all; their
// graph then leads from slot to slot. For an index that has its rows already.
MrlStatus mrl_build_place(MrlBuild* build, const uint32_t* slots, uint32_t n);
// What a built index is: meta (blocks are the caller's), the blob, and the items of every page of a
// section.
const struct MrlMeta* mrl_build_meta(const MrlBuild* build);
const uint8_t* mrl_build_blob(const MrlBuild* build);
const MrlEvidence* mrl_build_evidence(const MrlBuild* build);
const MrlChosen* mrl_build_chosen(const MrlBuild* build);
void mrl_build_page(const MrlBuild* build, int section, uint32_t number, uint8_t* page);

// Searching

typedef struct MrlReader MrlReader;
typedef struct {
    uint32_t slot;
    double distance;  // estimated
    double nearest;   // it is hardly ever less
} MrlHit;

typedef enum {
    MRL_WALK,
    MRL_SCAN,        // by the lines of all slots
    MRL_SCAN_CODES,  // the same, and the best by their codes
    MRL_GATHER,      // a walk to a row's own place, for its links
    MRL_SCORE,       // the codes of given slots, all of them
} MrlSearchKind;

// Slots that a filter lets through: a bit for each of the first `slots`. Without words: all.
typedef struct {
    const uint64_t* words;
    uint32_t slots;
    uint32_t count;  // bits that are set
} MrlAllowed;

typedef struct {
    MrlSearchKind kind;
    size_t effort;          // candidates that a walk expands
    size_t keep;            // candidates that come out
    size_t k;               // a walk ends when a candidate is far behind the k-th best
    const uint32_t* slots;  // to be scored, `keep` of them
    MrlAllowed allowed;     // that may come out
} MrlSearch;

// What was done about the last request.
typedef enum {
    MRL_READ,      // the pages can be found now
    MRL_COPIED,    // the copies have been made
    MRL_UNSTEADY,  // the pages do not stay: let copies be asked for
} MrlAnswer;

// What a backend keeps of an index beside its pages.
MrlStatus mrl_reader_open(const struct MrlMeta* meta, const uint8_t* blob, MrlReader** reader);
void mrl_reader_free(MrlReader* reader);
const MrlEvidence* mrl_reader_evidence(const MrlReader* reader);
const MrlChosen* mrl_reader_chosen(const MrlReader* reader);
// Walks may begin at one more slot of the graph, whose line this is.
MrlStatus mrl_reader_add_entry(MrlReader* reader, uint32_t slot,
                               const uint8_t line[MRL_ITEM_BYTES]);
const uint32_t* mrl_reader_entries(const MrlReader* reader, size_t* n);  // slots
// How many more entries there should be, for so many live rows.
size_t mrl_reader_entries_due(const MrlReader* reader, size_t rows);
// Writes the entries nearest to a query, which walks begin at, and how many; there is room for
// MRL_MOST_ENTERED. meta: as it is now.
enum { MRL_MOST_ENTERED = 32 };
MrlStatus mrl_entries_near(MrlReader* reader, const struct MrlMeta* meta, const float* query,
                           uint32_t* slots, size_t* n);
// One search at a time. meta: as it is now. When it gathers, its kind is all that is asked for.
MrlStatus mrl_search_begin(MrlReader* reader, const struct MrlMeta* meta,
                           const struct MrlPageHost* host, const float* query, MrlSearch search);
MrlStatus mrl_search_step(MrlReader* reader, MrlAnswer answer);
const struct MrlPageRequest* mrl_search_request(const MrlReader* reader);
const MrlHit* mrl_search_hits(const MrlReader* reader, size_t* n);
size_t mrl_search_scored(const MrlReader* reader);  // lines read

// A row as the index keeps it: its code (code_stride bytes), its line item, and the tail but for
// TID and flags.
MrlStatus mrl_encode(MrlReader* reader, const float* vector, uint8_t* code,
                     uint8_t line[MRL_ITEM_BYTES], struct MrlTail* tail);

// The vector that a row's code says.
void mrl_decode(const MrlReader* reader, const uint8_t* code, const struct MrlTail* tail,
                float* vector);

// Linking rows that wait into the graph, a batch at a time (graph/batch_link.hpp)

typedef struct MrlLinker MrlLinker;

// meta: as it is now.
MrlStatus mrl_link_begin(const MrlReader* reader, const struct MrlMeta* meta, MrlLinker** linker);
void mrl_link_free(MrlLinker* linker);
// The reader's last search gathered what is near this slot.
MrlStatus mrl_link_add(MrlLinker* linker, uint32_t slot, const MrlReader* reader);
// Slots whose lines are to be given before the next step, rising.
MrlStatus mrl_link_missing(MrlLinker* linker, const uint32_t** slots, size_t* n);
void mrl_link_give_line(MrlLinker* linker, uint32_t slot, const uint8_t line[MRL_ITEM_BYTES]);
// Prunes; slots whose links are to be given then.
MrlStatus mrl_link_prune(MrlLinker* linker, const uint32_t** slots, size_t* n);
MrlStatus mrl_link_give_links(MrlLinker* linker, uint32_t slot, const uint32_t* links);
// Ends, when the lines that are missing once more have been given.
MrlStatus mrl_link_end(MrlLinker* linker, size_t* changes);
// The links of a slot that are to be written; slots rise.
const uint32_t* mrl_link_change(const MrlLinker* linker, size_t i, uint32_t* slot);

#ifdef __cplusplus
}
#endif
