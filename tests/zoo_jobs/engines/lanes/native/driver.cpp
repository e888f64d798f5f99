// Trains, evaluates and compares small programs without Python, for builds with sanitizers: every kind of layer, every
// optimizer, twins, model counts that do not fill a group, sessions in several threads. Ends with 1 if two runs differ in a bit.
// The last line is a digest of all results, for comparing machines.
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "instruction_sets.h"
#include "pixel_rules.h"
#include "session.h"

namespace {

thread_local uint64_t state = 1;
uint32_t next() {  // any numbers will do
  state = state * 6364136223846793005u + 1442695040888963407u;
  return uint32_t(state >> 33);
}

struct Network {
  const char* name;
  int channels, side;
  std::vector<int32_t> layers;
  int pixels = 0;  // of an image to learn: then the network's inputs are coordinates

  lanes::Plan plan(int optimizer, bool dropout, bool twins) const {
    return lanes::make_plan(layers.data(), int(layers.size()) / lanes::kColumnsOfLayer, channels, side, optimizer,
                            pixels ? pixels : 3, dropout, twins);
  }
};

using lanes::Layer;

std::vector<int32_t> rows(const std::vector<std::vector<int32_t>>& layers) {
  std::vector<int32_t> table;
  for (std::vector<int32_t> layer : layers) {
    layer.resize(lanes::kColumnsOfLayer);
    table.insert(table.end(), layer.begin(), layer.end());
  }
  return table;
}

std::vector<int32_t> conv(int in, int out, int kernel, int stride = 1, int padding = 0) {
  return {Layer::kLayerConv, in, out, kernel, stride, padding};
}

std::vector<int32_t> sine(float omega) {
  int32_t bits;
  std::memcpy(&bits, &omega, sizeof bits);
  return {Layer::kLayerActivation, lanes::kSine, bits};
}

std::vector<Network> networks() {
  using namespace lanes;
  const std::vector<int32_t> pool = {kLayerMaxPool, 2, 2}, dropout = {kLayerDropout}, flatten = {kLayerFlatten};
  const auto act = [](int name) { return std::vector<int32_t>{kLayerActivation, name}; };
  const auto linear = [](int in, int out) { return std::vector<int32_t>{kLayerLinear, in, out}; };
  return {
      {"cnn-s", 1, 28, rows({conv(1, 8, 5), pool, act(kTanh), dropout, conv(8, 6, 5), pool, act(kTanh), conv(6, 4, 2),
                             act(kTanh), flatten, linear(36, 20), act(kTanh), dropout, linear(20, 10)})},
      {"cnn-l", 3, 32, rows({conv(3, 16, 3), pool, act(kLeakyRelu), dropout, conv(16, 32, 3), pool, act(kRelu),
                             conv(32, 15, 3), pool, act(kSigmoid), flatten, linear(60, 20), act(kSilu), dropout,
                             linear(20, 10)})},
      // odd sizes: a pool first, kernels 4, 1 and 6, a pool after an activation, dropout alone
      {"odd", 2, 23, rows({pool, dropout, conv(2, 7, 4), act(kSilu), pool, conv(7, 5, 1), conv(5, 3, 2), dropout,
                           flatten, linear(27, 13), act(kGelu), linear(13, 11)})},
      // strides, padding, other pools, residual sums
      {"list", 3, 12, rows({conv(3, 9, 3, 1, 1), sine(3), conv(9, 9, 3, 1, 1), act(kRelu), {kLayerAdd, 1}, act(kGelu),
                            {kLayerMaxPool, 3, 2}, conv(9, 12, 4, 2, 2), dropout, act(kTanh), {kLayerAdd, 7},
                            {kLayerAvgPool, 2, 1}, flatten, linear(48, 10)})},
      // image regression: neither pixels nor values fill tiles; sums read an activation and a linear layer
      {"image", 2, 1, rows({linear(2, 13), sine(30), linear(13, 13), act(kTanh), {kLayerAdd, 1}, linear(13, 3), act(kGelu),
                            {kLayerAdd, 5}, linear(3, 3), {kLayerSquaredError, 2}}), 29},
  };
}

std::vector<float> train(const Network& network, const std::string& isa, int optimizer, bool dropout, bool twins,
                         int models) {
  using namespace lanes;
  const Plan plan = network.plan(optimizer, dropout, twins);
  state = 99;
  const size_t n = size_t(models);
  std::vector<uint32_t> seed(n);
  std::vector<double> rate(n, 1e-3), decay(n, 1e-3), momentum(n, 0.9), ratio(n, dropout ? 0.4 : 0.0);
  std::vector<uint8_t> nesterov(n);
  for (size_t i = 0; i < n; ++i) seed[i] = uint32_t(i), nesterov[i] = i % 2;
  Session session(plan, isa, models,
                  {seed.data(), rate.data(), decay.data(), momentum.data(), nesterov.data(), ratio.data()});
  std::vector<float> weights(n * size_t(plan.num_params));
  for (float& w : weights) w = (float(next() % 2001) - 1000.0f) * 2e-4f;
  session.put(0, weights.data());
  if (twins) session.put(1, std::vector<float>(n * size_t(plan.num_variances), -7.0f).data());
  session.put_steps(std::vector<int64_t>(n, 0).data());

  constexpr int rows = 8;
  const size_t planes = size_t(network.pixels ? plan.num_classes : network.channels);
  std::vector<uint8_t> images(rows * (network.pixels ? planes * size_t(network.pixels) : size_t(plan.in_size())));
  std::vector<uint8_t> labels(rows);
  for (uint8_t& byte : images) byte = uint8_t(next());
  for (uint8_t& label : labels) label = uint8_t(next() % uint32_t(plan.num_classes));
  std::vector<float> table(256 * planes);
  for (size_t i = 0; i < table.size(); ++i) table[i] = (float(i % 256) / 255.0f - 0.5f) / 0.25f;
  const auto rules = pixel_rules(table.data(), int(planes));
  const Images data{images.data(), labels.data(), table.data(), rules.empty() ? nullptr : rules.data(), rows};

  std::vector<double> loss(n);
  std::vector<int32_t> hits(n);
  const std::vector<uint8_t> active(n, 1);
  const size_t num_counts = n * size_t(plan.num_classes);
  std::vector<int32_t> class_hits(num_counts), class_predicted(num_counts);
  if (network.pixels) {
    std::vector<int64_t> image(n);
    for (size_t i = 0; i < n; ++i) image[i] = int64_t(i % rows);
    std::vector<float> coordinates(size_t(2 * network.pixels));
    for (float& x : coordinates) x = float(next() % 2001) * 1e-3f - 1;
    session.put_images(image.data(), coordinates.data());
    session.fit(data, active.data(), loss.data());
    session.errors(data, loss.data());
  } else {
    for (int epoch = 1; epoch <= 2; ++epoch)
      session.train_epoch(data, epoch, 0.01, active.data(), loss.data(), hits.data());
    session.evaluate(data, loss.data(), hits.data(), class_hits.data(), class_predicted.data());
  }
  std::vector<float> out(n * size_t(plan.num_trained()));
  session.get(2, out.data());
  session.get(0, weights.data());
  out.insert(out.end(), weights.begin(), weights.end());
  for (const double value : loss) out.push_back(float(value));
  out.insert(out.end(), class_hits.begin(), class_hits.end());
  out.insert(out.end(), class_predicted.begin(), class_predicted.end());
  if (twins) {
    std::vector<uint8_t> mask(n * size_t(plan.num_variances));
    session.sparsity(loss.data(), hits.data(), mask.data());
    out.insert(out.end(), mask.begin(), mask.end());
  }
  return out;
}

uint64_t digest = 0xcbf29ce484222325u;  // FNV-1a
void add_to_digest(const std::vector<float>& values) {
  for (const float value : values) {
    unsigned char bytes[sizeof(float)];
    std::memcpy(bytes, &value, sizeof(float));
    for (const unsigned char byte : bytes) digest = (digest ^ byte) * 0x100000001b3u;
  }
}

}  // namespace

// With an argument only sessions in threads are compared, for one optimizer: data races do not depend on the arithmetic.
int main(int argc, char**) {
  const bool races = argc > 1;
  int failures = 0, runs = 0;
  for (const Network& network : networks())
    for (int optimizer = races ? 2 : 0; optimizer < 3; ++optimizer)
      for (const int kind : {0, 1, 2}) {
        if (kind && network.pixels) continue;  // neither dropout nor twins
        const auto once = [&](const std::string& isa) {
          return train(network, isa, optimizer, kind == 1, kind == 2, 37);
        };
        const std::vector<float> expected = once("auto");
        add_to_digest(expected);
        ++runs;
        std::vector<std::vector<float>> others(4);
        std::vector<std::thread> threads;
        for (std::vector<float>& other : others) threads.emplace_back([&other, &once] { other = once("auto"); });
        for (std::thread& thread : threads) thread.join();
        std::vector<std::string> names(4, "auto in a thread");
        if (!races)
          for (const std::string& isa : lanes::available()) others.push_back(once(isa)), names.push_back(isa);
        for (size_t i = 0; i < others.size(); ++i, ++runs) {
          if (others[i].size() == expected.size() &&
              std::memcmp(others[i].data(), expected.data(), expected.size() * sizeof(float)) == 0)
            continue;
          std::printf("%s, optimizer %d, kind %d: %s differs\n", network.name, optimizer, kind, names[i].c_str());
          ++failures;
        }
      }
  std::printf("%d runs, %d differ\ndigest %016llx\n", runs, failures, static_cast<unsigned long long>(digest));
  return failures != 0;
}
