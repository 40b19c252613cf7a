import { Controller, Get, Module, Param } from '@nestjs/common';

@Controller()
class StockController {
  @Get('health')
  health() {
    return { ok: true };
  }

  @Get('articles/:article')
  article(@Param('article') article: string) {
    return { article, left: article.length };
  }
}

@Module({ controllers: [StockController] })
export class StockModule {}
