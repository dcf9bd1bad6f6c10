// Searches by words: which words of a query are looked for, and the rows that have them.
#pragma once

#include "mrl.h"

// A word of a query. What is behind it lies in the memory context of its query.
typedef struct MrlWord {
    const char* text;  // without an end
    int length;
    double share;   // of the rows that have it
    double weight;  // ln(1 + 1 / share), a multiple of 2^-24: sums of weights are exact
} MrlWord;

// words.c: the words that mrl.query_words() of sql/functions/text.sql chooses, the rarest first.
MrlWord* mrl_query_words(Relation table, AttrNumber column, const char* language, Datum query,
                         int* n);
