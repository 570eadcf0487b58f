/* A progress bar with rate and time left. On a terminal one line is redrawn ten times a second;
 * elsewhere a plain line is written every few seconds. Owned by one thread. */
#ifndef JUMUN_CLI_PROGRESS_H
#define JUMUN_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct progress {
    FILE *out;               /* NULL = show nothing */
    const char *label, *unit;/* "placing", "orders" (cut by an s for 1); borrowed */
    bool terminal, color, blocks;
    uint64_t started_ns, drawn_ns;
    double rate;             /* smoothed, per second */
    uint64_t rate_done, rate_ns;
    uint64_t interval_ns;
};

void progress_start(struct progress *progress, FILE *out, const char *label, const char *unit,
                    bool color);

/* `share` is 0 .. 1, negative when unknown; `done` counts units; `note` stands at the end ("12
 * refused"), may be "". Cheap to call often. */
void progress_update(struct progress *progress, double share, uint64_t done, const char *note);

/* Draws the last state whatever the time is, and ends the line. */
void progress_end(struct progress *progress, double share, uint64_t done, const char *note);

#endif
