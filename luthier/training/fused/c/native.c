/* What lies between the matrix products of a training step on a CPU, each piece in one pass.

   Everything is compiled twice, for bfloat16 and for float32, with another `T`. All arithmetic is in
   float32 and is rounded once, when it is stored. Matrices have rows of `ld_` elements, of which the
   first ones are meant. Work is divided over rows in the same way whenever there are as many
   threads, so results are the same to the bit. */

#include "numbers.h"

#define T bfloat16
#define SUFFIX bf16
#define READ read_bf16
#define WRITE write_bf16
#define WIDE wide_bf16
#define NARROW narrow_bf16
#include "layer.h"
#include "attention.h"
#include "step.h"
#undef T
#undef SUFFIX
#undef READ
#undef WRITE
#undef WIDE
#undef NARROW

#define T float
#define SUFFIX f32
#define READ read_f32
#define WRITE write_f32
#define WIDE(x) (x)
#define NARROW(x) (x)
#include "layer.h"
#include "attention.h"
#include "step.h"
