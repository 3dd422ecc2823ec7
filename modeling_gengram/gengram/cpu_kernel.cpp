// The motif memory on a CPU, from merged tables to residual in one pass over the positions.
//
// Forward: a position's key and value are a weighted sum of a few rows of the merged tables (`collect`); gate and
// convolution follow while they are in the cache. Nothing is kept for backward, which walks over the positions again.
// Gradients of the rows are summed column by column: each thread owns a strip of columns and takes the positions in
// order, so there are no atomics and the sums do not depend on the number of threads.
//
// `cpu_kernel.py` compiles this file, calls it, and fills `Call`.

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr double GATE_FLOOR = 1e-6;  // as in memory_ops.py
constexpr int NUM_LETTERS = 5;

// Letters: B sequences, S letters of each, of which the last T are positions with a result; D hidden size.
// An optional pointer is null where there is nothing.
template <class scalar>
struct Call {
  int64_t B, S, T, D;
  int64_t num_sizes, window, first_lag;  // sizes ascend
  int64_t taps, dilation;                // no taps: no convolution
  int64_t kept;                          // last positions whose gated vectors are wanted
  int64_t signed_sqrt, threads;
  double eps;
  const int64_t* sizes;      // [num_sizes]
  const int64_t* letters;    // [B, S], 0..4 or -1
  const int64_t* documents;  // [B, S], optional
  const uint8_t* real;       // [B, T], optional
  const int32_t* places;     // rows of the k-mers of each size, then of the oldest (K-1)-mers
  const int64_t* starts;     // [num_sizes + 1], where each of these begins in `places`
  const int32_t* rest_of;    // [B, T], optional: row of `rest` that is key and value of the position, or -1
  const scalar* rest;        // [N, 2D], optional
  const scalar* rows;        // [R, 2D]
  const scalar* bias;        // [2D], optional
  const scalar* hidden;      // [B, T, D]
  const scalar* norm_q;      // [D]
  const scalar* norm_k;      // [D]
  const scalar* conv;        // [taps, D], optional
  const scalar* past;        // [B, (taps - 1) * dilation, D], optional: gated vectors of earlier positions
  scalar* output;            // [B, T, D]
  scalar* gated;             // [B, kept, D], optional
  scalar* key_value;         // [B, T, 2D], optional
  // backward only
  int64_t num_rows;
  const scalar* grad_output;  // [B, T, D]
  scalar* grad_hidden;        // [B, T, D]
  scalar* grad_rows;          // [R, 2D]
  scalar* grad_shared;        // [threads, (4 + taps) * D], zero: bias, norm_q, norm_k, conv of each thread
  scalar* strips;             // [strips, B * T, STRIP], scratch
};

// 64 bytes of numbers: one AVX-512 register, two of AVX2, four of NEON.
template <class scalar>
struct Lanes;
template <>
struct Lanes<float> {
  typedef float type __attribute__((vector_size(64), aligned(4), may_alias));
};
template <>
struct Lanes<double> {
  typedef double type __attribute__((vector_size(64), aligned(8), may_alias));
};
template <class scalar>
constexpr int WIDTH = 64 / sizeof(scalar);
template <class scalar>
constexpr int STRIP = 2 * WIDTH<scalar>;  // columns of a strip: all rows of a strip fit into a second-level cache

inline double exponential(double x) { return std::exp(x); }

// exp(x) = 2^n exp(r), |r| <= ln(2) / 2, exp(r) by its series to r^6 / 720 (error 2e-7 relative). Without a call or
// a branch, so that loops over it become vector instructions.
inline float exponential(float x) {
  x = std::min(std::max(x, -87.0f), 88.0f);
  const float rounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float n = (x * 1.44269504f + rounder) - rounder;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float series = 1.0f / 720;
  series = series * r + 1.0f / 120;
  series = series * r + 1.0f / 24;
  series = series * r + 1.0f / 6;
  series = series * r + 0.5f;
  series = series * r + 1.0f;
  series = series * r + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof(power));
  return series * power;
}

template <class scalar>
inline scalar sigmoid(scalar x) {
  return 1 / (1 + exponential(-x));
}

// A row that a position reads, and the weight that it has there.
template <class scalar>
struct Read {
  int32_t row;
  scalar weight;
};

// What one call knows of its letters: for each of the B * S of them the number of bases of one document that end there
// without a gap, and the index of the last K of them in base 5 (K the largest size; of shorter ones modulo 5^k).
template <class scalar>
struct Kmers {
  const Call<scalar>& call;
  int64_t largest;
  std::vector<int64_t> powers;  // 5^k
  std::vector<int32_t> run, index;

  explicit Kmers(const Call<scalar>& call)
      : call(call), largest(call.sizes[call.num_sizes - 1]), powers(largest + 1, 1),
        run(call.B * call.S), index(call.B * call.S) {
    for (int64_t k = 1; k <= largest; k++) powers[k] = powers[k - 1] * NUM_LETTERS;
    for (int64_t b = 0; b < call.B; b++) {
      int64_t bases = 0, value = 0;
      for (int64_t s = b * call.S; s < (b + 1) * call.S; s++) {
        const int64_t letter = call.letters[s];
        if (letter < 0 || (bases > 0 && call.documents && call.documents[s] != call.documents[s - 1])) bases = 0;
        if (bases == 0) value = 0;
        if (letter >= 0) {
          value = (value * NUM_LETTERS + letter) % powers[largest];
          bases++;
        }
        run[s] = static_cast<int32_t>(bases);
        index[s] = static_cast<int32_t>(value);
      }
    }
  }

  int64_t capacity() const { return std::max(call.window + 1, call.window * call.num_sizes); }

  int32_t find(int64_t size_number, int64_t k, int64_t s) const {
    return call.places[call.starts[size_number] + index[s] % powers[k]];
  }
  const scalar* row_of(int64_t s) const {  // Q of the largest k-mer that ends at letter s
    return call.rows + find(call.num_sizes - 1, largest, s) * 2 * call.D;
  }

  int64_t places() const { return call.window - largest + 1; }

  // The letter at which the window of position t of sequence b ends; it may lie outside.
  int64_t end_of(int64_t b, int64_t t) const { return b * call.S + call.S - call.T + t - call.first_lag; }

  // Whether every letter of the window that ends there is a base, of the document of its position.
  bool is_full(int64_t b, int64_t end) const {
    if (end < b * call.S || end >= (b + 1) * call.S || run[end] < call.window) return false;
    return !call.documents || call.documents[end] == call.documents[end + call.first_lag];
  }

  // The rows that position t of sequence b reads; returns their number.
  //
  // A full window reads Q (row sums of all sizes) at the places of the largest k-mer, and R for its oldest bases.
  // Otherwise size k has c_k <= L_k places and its mean weighs w_k = L_k / c_k of its share in Q. With Q_k - Q_j as
  // the share of size k (j the next smaller one), the k-mers that end at e add up to
  // w_m Q_m + sum over k < m of (w_k - w_next(k)) Q_k, m being the largest that is inside window and document.
  int64_t collect(int64_t b, int64_t t, Read<scalar>* reads) const {
    const int64_t first = b * call.S, end = end_of(b, t), here = end + call.first_lag;
    const int64_t W = call.window, last = call.num_sizes - 1;
    int64_t count = 0;
    if (is_full(b, end)) {
      for (int64_t lag = 0; lag < places(); lag++) reads[count++] = {find(last, largest, end - lag), 1};
      if (largest > 1) reads[count++] = {find(last + 1, largest - 1, end - places()), 1};
      return count;
    }
    const int64_t begin = std::max(end - W + 1, first), stop = std::min(end + 1, first + call.S);
    auto reach = [&](int64_t e) -> int64_t {  // letters of the window that end at e
      if (call.documents && call.documents[e] != call.documents[here]) return 0;
      return std::min<int64_t>(run[e], e - (end - W));
    };
    scalar weights[64] = {};
    for (int64_t n = 0; n <= last; n++) {
      int64_t occurrences = 0;
      for (int64_t e = begin; e < stop; e++) occurrences += reach(e) >= call.sizes[n];
      if (occurrences) weights[n] = static_cast<scalar>(W - call.sizes[n] + 1) / occurrences;
    }
    for (int64_t e = begin; e < stop; e++) {
      const int64_t bases = reach(e);
      for (int64_t n = 0; n <= last && call.sizes[n] <= bases; n++) {
        const bool next = n < last && call.sizes[n + 1] <= bases;
        const scalar weight = next ? weights[n] - weights[n + 1] : weights[n];
        if (weight != 0) reads[count++] = {find(n, call.sizes[n], e), weight};
      }
    }
    return count;
  }
};

// sum[0..width) += weighted rows, N vectors at a time, held in registers.
template <class scalar, int N>
int64_t add_rows(const Read<scalar>* reads, int64_t count, const scalar* rows, int64_t width, int64_t at, scalar* sum) {
  using lanes = typename Lanes<scalar>::type;
  for (; at + N * WIDTH<scalar> <= width; at += N * WIDTH<scalar>) {
    lanes total[N];
    for (int j = 0; j < N; j++) total[j] = reinterpret_cast<const lanes*>(sum + at)[j];
    for (int64_t i = 0; i < count; i++) {
      const lanes* row = reinterpret_cast<const lanes*>(rows + reads[i].row * width + at);
      for (int j = 0; j < N; j++) total[j] += reads[i].weight * row[j];
    }
    for (int j = 0; j < N; j++) reinterpret_cast<lanes*>(sum + at)[j] = total[j];
  }
  return at;
}

// Sums of Q over the places of full windows, for positions in turn: of blocks of L letters the sums from each letter to
// the block's end and those from its begin up to the present letter are kept. A window of L places is the end of one
// block and the begin of the next, so that a position adds up four rows instead of L + 1, and nothing is subtracted,
// which would let rounding errors build up.
template <class scalar>
struct SlidingSum {
  const Call<scalar>& call;
  const Kmers<scalar>& kmers;
  const int64_t L, width;
  std::vector<scalar> begin_sum, end_sums;  // [2D], [L, 2D]
  int64_t begin_last = -1;                  // the letter up to which `begin_sum` goes
  int64_t end_block = -1;                   // the block that follows the one of `end_sums`

  SlidingSum(const Call<scalar>& call, const Kmers<scalar>& kmers)
      : call(call), kmers(kmers), L(kmers.places()), width(2 * call.D) {}

  // Worth it, and the same choice for every thread, since the order of the sums differs.
  bool serves() const { return L > 4 && call.T >= 4 * L; }

  static void add(scalar* sum, const scalar* row, const scalar* other, int64_t width) {
#pragma omp simd
    for (int64_t c = 0; c < width; c++) sum[c] = row[c] + other[c];
  }

  // Key and value of the position of sequence b whose full window ends at letter `end`.
  void read(int64_t b, int64_t end, scalar* key) {
    if (begin_sum.empty()) {
      begin_sum.resize(width);
      end_sums.resize(L * width);
    }
    const int64_t offset = (end - b * call.S) % L, block = end - offset;
    int64_t from = begin_last + 1;
    if (begin_last != end - 1 || offset == 0) {
      std::copy_n(kmers.row_of(block), width, begin_sum.data());
      from = block + 1;
    }
    for (int64_t s = from; s <= end; s++) add(begin_sum.data(), begin_sum.data(), kmers.row_of(s), width);
    begin_last = end;
    const scalar* whole = begin_sum.data();
    if (offset < L - 1) {
      if (end_block != block) {
        scalar* sums = end_sums.data();
        std::copy_n(kmers.row_of(block - 1), width, sums + (L - 1) * width);
        for (int64_t i = L - 2; i > offset; i--)
          add(sums + i * width, kmers.row_of(block - L + i), sums + (i + 1) * width, width);
        end_block = block;
      }
      add(key, begin_sum.data(), end_sums.data() + (offset + 1) * width, width);
      whole = key;
    }
    if (kmers.largest > 1) {
      const scalar* far = call.rows + kmers.find(call.num_sizes, kmers.largest - 1, end - L) * width;
      add(key, whole, far, width);
    } else if (whole != key) {
      std::copy_n(whole, width, key);
    }
    if (call.bias) add(key, key, call.bias, width);
  }
};

// What the gate of a position was computed from.
template <class scalar>
struct Gate {
  scalar inverse_q, inverse_k, score, value;
};

// One thread's walk over the positions.
template <class scalar>
struct Walk {
  const Call<scalar>& call;
  const Kmers<scalar>& kmers;
  const int64_t D, history;
  SlidingSum<scalar> sliding;
  std::vector<Read<scalar>> reads;
  std::vector<scalar> key_value, gated, mixed, slope, grad;  // rings of `history + 1` positions; scratch
  std::vector<Gate<scalar>> gates;

  Walk(const Call<scalar>& call, const Kmers<scalar>& kmers)
      : call(call), kmers(kmers), D(call.D), history(call.taps ? (call.taps - 1) * call.dilation : 0),
        sliding(call, kmers), reads(kmers.capacity()), key_value((history + 1) * 2 * D), gated((history + 1) * D),
        mixed(D), slope((history + 1) * D), grad(3 * D), gates(history + 1) {}

  int64_t slot(int64_t t) const { return t % (history + 1); }
  scalar* gated_at(int64_t t) { return gated.data() + slot(t) * D; }
  scalar* slope_at(int64_t t) { return slope.data() + slot(t) * D; }
  bool is_real(int64_t b, int64_t t) const { return !call.real || call.real[b * call.T + t]; }
  bool same_document(int64_t b, int64_t t, int64_t u) const {
    const int64_t* documents = call.documents ? call.documents + (b + 1) * call.S - call.T : nullptr;
    return !documents || documents[t] == documents[u];
  }

  // Key and value, gate and gated vector of position t, into its slots.
  void read(int64_t b, int64_t t) {
    scalar* key = key_value.data() + slot(t) * 2 * D;
    const int32_t rest = call.rest_of ? call.rest_of[b * call.T + t] : -1;
    const int64_t end = kmers.end_of(b, t);
    if (rest >= 0) {
      std::copy_n(call.rest + rest * 2 * D, 2 * D, key);
    } else if (sliding.serves() && kmers.is_full(b, end)) {
      sliding.read(b, end, key);
    } else {
      if (call.bias) {
        std::copy_n(call.bias, 2 * D, key);
      } else {
        std::fill_n(key, 2 * D, scalar(0));
      }
      const int64_t count = kmers.collect(b, t, reads.data());
      int64_t at = add_rows<scalar, 8>(reads.data(), count, call.rows, 2 * D, 0, key);
      at = add_rows<scalar, 1>(reads.data(), count, call.rows, 2 * D, at, key);
      for (int64_t i = 0; i < count; i++)
        for (int64_t c = at; c < 2 * D; c++) key[c] += reads[i].weight * call.rows[reads[i].row * 2 * D + c];
    }
    const scalar *value = key + D, *x = call.hidden + (b * call.T + t) * D;
    scalar dot = 0, squares_q = 0, squares_k = 0;
    multiply(x, key, dot, squares_q, squares_k);
    Gate<scalar>& gate = gates[slot(t)];
    gate.inverse_q = 1 / std::sqrt(squares_q / D + static_cast<scalar>(call.eps));
    gate.inverse_k = 1 / std::sqrt(squares_k / D + static_cast<scalar>(call.eps));
    gate.score = dot * gate.inverse_q * gate.inverse_k / std::sqrt(static_cast<scalar>(D));
    scalar score = gate.score;
    if (call.signed_sqrt) {
      const scalar root = std::sqrt(std::max(std::abs(score), static_cast<scalar>(GATE_FLOOR)));
      score = score > 0 ? root : score < 0 ? -root : score;
    }
    gate.value = 1 / (1 + std::exp(-score));
    scalar* out = gated_at(t);
    const scalar factor = is_real(b, t) ? gate.value : 0;
#pragma omp simd
    for (int64_t c = 0; c < D; c++) out[c] = factor * value[c];
  }

  // <x * norm_q, key * norm_k>, <x, x>, <key, key>. GCC 12 does not vectorize it from a plain loop.
  void multiply(const scalar* x, const scalar* key, scalar& dot, scalar& squares_q, scalar& squares_k) const {
    using lanes = typename Lanes<scalar>::type;
    lanes dots{}, all_q{}, all_k{};
    int64_t c = 0;
    for (; c + WIDTH<scalar> <= D; c += WIDTH<scalar>) {
      const lanes q = *reinterpret_cast<const lanes*>(x + c), k = *reinterpret_cast<const lanes*>(key + c);
      const lanes norm_q = *reinterpret_cast<const lanes*>(call.norm_q + c);
      dots += q * norm_q * *reinterpret_cast<const lanes*>(call.norm_k + c) * k;
      all_q += q * q;
      all_k += k * k;
    }
    for (int i = 0; i < WIDTH<scalar>; i++) {
      dot += dots[i];
      squares_q += all_q[i];
      squares_k += all_k[i];
    }
    for (; c < D; c++) {
      dot += x[c] * call.norm_q[c] * call.norm_k[c] * key[c];
      squares_q += x[c] * x[c];
      squares_k += key[c] * key[c];
    }
  }

  // Gated vector that tap j of position t multiplies; null before the sequence and in another document.
  const scalar* tap(int64_t b, int64_t t, int64_t j) {
    const int64_t from = t - (call.taps - 1 - j) * call.dilation;
    if (from < 0) return call.past ? call.past + (b * history + history + from) * D : nullptr;
    return same_document(b, t, from) ? gated_at(from) : nullptr;
  }

  // The convolution's sum at position t, into `mixed`.
  void convolve(int64_t b, int64_t t) {
    std::fill(mixed.begin(), mixed.end(), scalar(0));
    for (int64_t j = 0; j < call.taps; j++) {
      const scalar *source = tap(b, t, j), *weight = call.conv + j * D;
      if (!source) continue;
#pragma omp simd
      for (int64_t c = 0; c < D; c++) mixed[c] += weight[c] * source[c];
    }
  }

  void forward(int64_t b, int64_t begin, int64_t end) {
    for (int64_t t = std::max<int64_t>(begin - history, 0); t < end; t++) {
      read(b, t);
      if (t < begin) continue;
      const scalar* o = gated_at(t);
      scalar* out = call.output + (b * call.T + t) * D;
      if (call.gated && t >= call.T - call.kept)
        std::copy_n(o, D, call.gated + (b * call.kept + t - (call.T - call.kept)) * D);
      if (call.key_value)
        std::copy_n(key_value.data() + slot(t) * 2 * D, 2 * D, call.key_value + (b * call.T + t) * 2 * D);
      if (!call.taps) {
        std::copy_n(o, D, out);
        continue;
      }
      convolve(b, t);
#pragma omp simd
      for (int64_t c = 0; c < D; c++) out[c] = o[c] + mixed[c] * sigmoid(mixed[c]);
    }
  }

  // `shared`: this thread's gradients of bias, norm_q, norm_k, conv.
  void backward(int64_t b, int64_t begin, int64_t end, scalar* shared) {
    scalar* grad_conv = shared + 4 * D;
    for (int64_t u = std::max<int64_t>(begin - history, 0); u < end + history; u++) {
      if (u < call.T) {
        read(b, u);
        if (u >= begin && call.taps) {
          convolve(b, u);
          const scalar* grad_output = call.grad_output + (b * call.T + u) * D;
          scalar* to = slope_at(u);
#pragma omp simd
          for (int64_t c = 0; c < D; c++) {
            const scalar s = sigmoid(mixed[c]);
            to[c] = grad_output[c] * s * (1 + mixed[c] * (1 - s));
          }
          for (int64_t j = 0; j < call.taps && u < end; j++) {
            const scalar* source = tap(b, u, j);
            scalar* sum = grad_conv + j * D;
            if (!source) continue;
#pragma omp simd
            for (int64_t c = 0; c < D; c++) sum[c] += to[c] * source[c];
          }
        }
      }
      if (u - history >= begin) backward_at(b, u - history, shared);
    }
  }

  // Gradients of position t, whose gated vector and later slopes are in their slots.
  void backward_at(int64_t b, int64_t t, scalar* shared) {
    scalar *grad_gated = grad.data(), *grad_key = grad_gated + D, *grad_value = grad_key + D;
    std::copy_n(call.grad_output + (b * call.T + t) * D, D, grad_gated);
    for (int64_t j = 0; j < call.taps; j++) {
      const int64_t later = t + (call.taps - 1 - j) * call.dilation;
      if (later >= call.T || !same_document(b, t, later)) continue;
      const scalar *weight = call.conv + j * D, *from = slope_at(later);
#pragma omp simd
      for (int64_t c = 0; c < D; c++) grad_gated[c] += weight[c] * from[c];
    }
    const Gate<scalar>& gate = gates[slot(t)];
    const scalar *key = key_value.data() + slot(t) * 2 * D, *value = key + D;
    const scalar *x = call.hidden + (b * call.T + t) * D, *q = call.norm_q, *k = call.norm_k;
    const scalar real = is_real(b, t);
    scalar grad_score = 0;
#pragma omp simd reduction(+ : grad_score)
    for (int64_t c = 0; c < D; c++) grad_score += grad_gated[c] * value[c];
    grad_score *= real * gate.value * (1 - gate.value);
    if (call.signed_sqrt) {
      const scalar size = std::abs(gate.score);
      grad_score *= size >= static_cast<scalar>(GATE_FLOOR) ? scalar(0.5) / std::sqrt(size) : scalar(0);
    }
    const scalar both = grad_score * gate.inverse_q * gate.inverse_k / std::sqrt(static_cast<scalar>(D));
    const scalar own_q = grad_score * gate.score * gate.inverse_q * gate.inverse_q / D;
    const scalar own_k = grad_score * gate.score * gate.inverse_k * gate.inverse_k / D;
    scalar* grad_hidden = call.grad_hidden + (b * call.T + t) * D;
    scalar *sum_q = shared + 2 * D, *sum_k = shared + 3 * D;
#pragma omp simd
    for (int64_t c = 0; c < D; c++) {
      grad_hidden[c] = both * q[c] * k[c] * key[c] - own_q * x[c];
      grad_key[c] = both * q[c] * k[c] * x[c] - own_k * key[c];
      grad_value[c] = real * gate.value * grad_gated[c];
      sum_q[c] += both * x[c] * key[c] * k[c];
      sum_k[c] += both * x[c] * key[c] * q[c];
    }
    if (call.bias) {
#pragma omp simd
      for (int64_t c = 0; c < 2 * D; c++) shared[c] += grad_key[c];
    }
    const int64_t positions = call.B * call.T, width = STRIP<scalar>;
    for (int64_t at = 0; at < 2 * D; at += width) {
      scalar* to = call.strips + (at / width * positions + b * call.T + t) * width;
      std::copy_n(grad_key + at, std::min(width, 2 * D - at), to);
    }
  }
};

// Gives each thread an equal share of the B * T positions, cut at sequences: visit(walk, thread, b, begin, end).
template <class scalar, class Visit>
void share_positions(const Call<scalar>& call, const Kmers<scalar>& kmers, Visit visit) {
  const int64_t total = call.B * call.T;
#pragma omp parallel num_threads(static_cast<int>(call.threads))
  {
    const int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
    Walk<scalar> walk(call, kmers);
    for (int64_t at = total * thread / threads, stop = total * (thread + 1) / threads; at < stop;) {
      const int64_t b = at / call.T, begin = at % call.T, end = std::min(call.T, begin + stop - at);
      visit(walk, thread, b, begin, end);
      at += end - begin;
    }
  }
}

template <class scalar>
void forward(const Call<scalar>& call) {
  const Kmers<scalar> kmers(call);
  share_positions(call, kmers, [](Walk<scalar>& walk, int64_t, int64_t b, int64_t begin, int64_t end) {
    walk.forward(b, begin, end);
  });
}

template <class scalar>
void backward(const Call<scalar>& call) {
  using lanes = typename Lanes<scalar>::type;
  const Kmers<scalar> kmers(call);
  const int64_t D = call.D, positions = call.B * call.T, width = STRIP<scalar>;
  share_positions(call, kmers, [&](Walk<scalar>& walk, int64_t thread, int64_t b, int64_t begin, int64_t end) {
    walk.backward(b, begin, end, call.grad_shared + thread * (4 + call.taps) * D);
  });
  if (!call.grad_rows) return;

  // Which rows each position adds its gradient to, once for every strip. A full window adds it to Q at L places: the
  // letter of each place collects what it gets (`collects`), and to one far row (`far`).
  const bool slides = SlidingSum<scalar>(call, kmers).serves();
  const int64_t letters = call.B * call.S;
  std::vector<int64_t> from(positions + 1, 0);
  std::vector<Read<scalar>> others, some(kmers.capacity());
  std::vector<int32_t> full(letters, -1), far(letters, -1), collects(letters, -1);
  for (int64_t p = 0; p < positions; p++) {
    const int64_t b = p / call.T, t = p % call.T, end = kmers.end_of(b, t);
    if (slides && kmers.is_full(b, end)) {
      full[end] = static_cast<int32_t>(p);
      if (kmers.largest > 1) far[end] = kmers.find(call.num_sizes, kmers.largest - 1, end - kmers.places());
    } else {
      const int64_t count = kmers.collect(b, t, some.data());
      others.insert(others.end(), some.begin(), some.begin() + count);
    }
    from[p + 1] = others.size();
  }
  for (int64_t s = 0; slides && s < letters; s++)
    if (kmers.run[s] >= kmers.largest) collects[s] = kmers.find(call.num_sizes - 1, kmers.largest, s);

#pragma omp parallel num_threads(static_cast<int>(call.threads))
  {
    const int64_t L = kmers.places();
    std::vector<scalar> sums(call.num_rows * width), end_sums(slides ? L * width : 0);
    lanes* ends = reinterpret_cast<lanes*>(end_sums.data());
#pragma omp for schedule(dynamic)
    for (int64_t strip = 0; strip < (2 * D + width - 1) / width; strip++) {
      std::fill(sums.begin(), sums.end(), scalar(0));
      auto grad_at = [&](int64_t p) -> const lanes* {  // `auto` would forget the alignment
        return reinterpret_cast<const lanes*>(call.strips + (strip * positions + p) * width);
      };
      auto sum_at = [&](int64_t row) -> lanes* { return reinterpret_cast<lanes*>(sums.data() + row * width); };
      for (int64_t p = 0; p < positions; p++) {
        const lanes left = grad_at(p)[0], right = grad_at(p)[1];
        for (int64_t i = from[p]; i < from[p + 1]; i++) {
          lanes* sum = sum_at(others[i].row);
          sum[0] += others[i].weight * left;
          sum[1] += others[i].weight * right;
        }
      }
      // A letter is a place of the L windows that end from it on: the end of its block and the begin of the next.
      for (int64_t block = 0; slides && block < letters;) {
        const int64_t stop = (block / call.S + 1) * call.S, next = std::min(block + L, stop);
        lanes left{}, right{};
        for (int64_t s = next - 1; s >= block; s--) {
          if (full[s] >= 0) {
            const lanes* grad = grad_at(full[s]);
            left += grad[0];
            right += grad[1];
            if (far[s] >= 0) {
              sum_at(far[s])[0] += grad[0];
              sum_at(far[s])[1] += grad[1];
            }
          }
          ends[2 * (s - block)] = left;
          ends[2 * (s - block) + 1] = right;
        }
        left = right = lanes{};
        for (int64_t s = block; s < next; s++) {
          const int64_t last = s + L - 1;  // of the windows that hold the letter
          if (s > block && last < stop && full[last] >= 0) {
            left += grad_at(full[last])[0];
            right += grad_at(full[last])[1];
          }
          if (collects[s] < 0) continue;
          sum_at(collects[s])[0] += ends[2 * (s - block)] + left;
          sum_at(collects[s])[1] += ends[2 * (s - block) + 1] + right;
        }
        block = next;
      }
      for (int64_t row = 0; row < call.num_rows; row++)
        std::copy_n(sums.data() + row * width, std::min(width, 2 * D - strip * width),
                    call.grad_rows + row * 2 * D + strip * width);
    }
  }
}

// Merged tables before and after: `table_levels.py`, whose `TableLevels` says what the fields are.
template <class scalar>
struct Levels {
  int64_t columns, num_sizes, num_far, num_parts, threads;
  const int64_t* bounds;   // [num_sizes + 1]
  const int64_t* parents;  // [bounds[num_sizes]]
  const int64_t* parts;    // [num_far, num_parts]
  scalar* merged;          // [bounds[num_sizes] + num_far, columns]
  // backward only
  const int64_t* children;  // rows that contain row r: from starts[r] to starts[r + 1]
  const int64_t* starts;    // [bounds[num_sizes] + 1]
  const scalar* grad;       // as merged
  scalar* total;            // [bounds[num_sizes - 1], columns]
};

// Size after size, since a row needs that of its end: the threads share the rows of one size.
template <class scalar>
void add_up(const Levels<scalar>& levels) {
  const int64_t C = levels.columns, first_far = levels.bounds[levels.num_sizes];
#pragma omp parallel num_threads(static_cast<int>(levels.threads))
  {
    for (int64_t size = 1; size < levels.num_sizes; size++) {
#pragma omp for
      for (int64_t row = levels.bounds[size]; row < levels.bounds[size + 1]; row++) {
        scalar* sum = levels.merged + row * C;
        const scalar* end = levels.merged + levels.parents[row] * C;
#pragma omp simd
        for (int64_t c = 0; c < C; c++) sum[c] += end[c];
      }
    }
#pragma omp for
    for (int64_t far = 0; far < levels.num_far; far++) {
      scalar* sum = levels.merged + (first_far + far) * C;
      std::fill_n(sum, C, scalar(0));
      for (int64_t i = 0; i < levels.num_parts; i++) {
        const scalar* part = levels.merged + levels.parts[far * levels.num_parts + i] * C;
#pragma omp simd
        for (int64_t c = 0; c < C; c++) sum[c] += part[c];
      }
    }
  }
}

template <class scalar>
void hand_down(const Levels<scalar>& levels) {
  const int64_t C = levels.columns, largest = levels.bounds[levels.num_sizes - 1];
#pragma omp parallel num_threads(static_cast<int>(levels.threads))
  for (int64_t size = levels.num_sizes - 2; size >= 0; size--) {
#pragma omp for schedule(dynamic, 4)
    for (int64_t row = levels.bounds[size]; row < levels.bounds[size + 1]; row++) {
      scalar* sum = levels.total + row * C;
      std::copy_n(levels.grad + row * C, C, sum);
      for (int64_t i = levels.starts[row]; i < levels.starts[row + 1]; i++) {
        const int64_t child = levels.children[i];
        const scalar* from = (child < largest ? levels.total : levels.grad) + child * C;
#pragma omp simd
        for (int64_t c = 0; c < C; c++) sum[c] += from[c];
      }
    }
  }
}

}  // namespace

extern "C" {
void forward_float(const Call<float>* call) { forward(*call); }
void forward_double(const Call<double>* call) { forward(*call); }
void backward_float(const Call<float>* call) { backward(*call); }
void backward_double(const Call<double>* call) { backward(*call); }
void add_up_float(const Levels<float>* levels) { add_up(*levels); }
void add_up_double(const Levels<double>* levels) { add_up(*levels); }
void hand_down_float(const Levels<float>* levels) { hand_down(*levels); }
void hand_down_double(const Levels<double>* levels) { hand_down(*levels); }
}
