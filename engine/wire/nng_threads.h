/* How many threads nng takes for its callbacks. Only programs may decide that, never libjumun. */
#ifndef JUMUN_WIRE_NNG_THREADS_H
#define JUMUN_WIRE_NNG_THREADS_H

/* One for each processor instead of nng's two: where all processors are busy, what is more only
 * takes turns with the rest. An even number, from 2 to nng's bound of 16. nng's threads for what
 * has run out of time follow the same number. To be called before anything of nng, on the program's
 * first thread; starts nng. */
void nng_threads_limit(void);

#endif
