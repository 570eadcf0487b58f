/* How far a play is acknowledged: commands are sent in the order of the log, their answers come in
 * any order, and a record counts only when every command before its end was answered.
 *
 * No thread of its own: the caller guards it. */
#ifndef JUMUN_REPLAY_PLAY_WINDOW_H
#define JUMUN_REPLAY_PLAY_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

struct play_window;

/* `capacity` commands and ends of records at a time. reached[] is borrowed: by shard, the last
 * record that is acknowledged as a whole; it is only ever raised. NULL without memory. */
struct play_window *play_window_open(uint32_t capacity, uint64_t reached[]);
void play_window_close(struct play_window *window);

bool play_window_is_full(const struct play_window *window);
/* A command of `shard` goes out; not when it is full. Its ticket for play_window_answer(). */
uint64_t play_window_send(struct play_window *window, uint32_t shard);
/* `answered` false: nobody knows what became of it, and its shard's place stays before it. */
void play_window_answer(struct play_window *window, uint64_t ticket, bool answered);
/* All commands of the shard's record `index` were sent; not when it is full. */
void play_window_end(struct play_window *window, uint32_t shard, uint64_t index);

#endif
